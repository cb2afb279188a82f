// The built program, each call a process of its own.
import { execFile, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { CheckpointList } from '../../src/index.js'
import { sandboxDirs, until, useTestState } from '../support/state.js'

const state = useTestState()
const cliPath = fileURLToPath(new URL('../../bin/deltabox.js', import.meta.url))

interface Ended {
  readonly stdout: string
  readonly stderr: string
  readonly code: number | null
}

function deltabox(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [cliPath, ...args], (error, stdout, stderr) =>
      resolve({ stdout, stderr, code: error === null ? 0 : typeof error.code === 'number' ? error.code : null }),
    )
  })
}

test('doctor finds this machine fit', async () => {
  const { stdout, code } = await deltabox('doctor')
  expect(stdout).toMatch(/^ +PROBE +FOUND\n/)
  expect(code).toBe(0)
  const json = await deltabox('doctor', '--json')
  for (const line of json.stdout.trim().split('\n'))
    expect(JSON.parse(line)).toMatchObject({ name: expect.any(String) as string })
})

test('a sandbox through its life, one process per call', async () => {
  const created = await deltabox('create', '--workspace', state.workspace, '--name', 'mine')
  expect(created.code).toBe(0)
  const id = created.stdout.trim()
  expect((await deltabox('ls')).stdout).toMatch(new RegExp(`^${id}  running  mine  `, 'm'))

  expect(await deltabox('exec', id, '--env', 'X=1', '--', 'bash', '-c', 'echo out $X; echo err >&2; exit 7')).toEqual({
    ...{ stdout: 'out 1\n', stderr: 'err\n', code: 7 },
  })
  const { stdout: result } = await deltabox('exec', id, '--json', '--', 'echo', '--json')
  expect(JSON.parse(result)).toMatchObject({ exitCode: 0, stdout: '--json\n' })
  const detached = await deltabox('exec', id, '--detach', '--json', '--', 'sleep', '60')
  expect(JSON.parse(detached.stdout)).toMatchObject({ commandId: expect.any(Number) as number })

  const first = (await deltabox('checkpoint', id, '--name', 'first')).stdout.trim()
  await deltabox('exec', id, '--', 'rm', 'README.md')
  const rollback = await deltabox('rollback', id, 'first')
  expect(rollback.stdout).toMatch(new RegExp(`^at ${first}; to undo: deltabox rollback ${id} `))
  expect((await deltabox('exec', id, '--', 'cat', 'README.md')).stdout).toBe('# a project\n')
  expect((await deltabox('tree', id)).stdout).toMatch(new RegExp(`${first}  first  .*← head`))
  const tree = JSON.parse((await deltabox('tree', id, '--json')).stdout) as CheckpointList
  expect(tree.head).toBe(first)
  expect(tree.checkpoints).toHaveLength(2)

  expect(await deltabox('rm', id)).toMatchObject({ stdout: `${id}\n`, code: 0 })
  expect(await deltabox('rm', id)).toMatchObject({ code: 1 })
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

test('exec streams live, and Ctrl-C ends the command inside', async () => {
  const id = (await deltabox('create', '--workspace', state.workspace)).stdout.trim()
  const child = spawn(process.execPath, [cliPath, 'exec', id, '--', 'bash', '-c', 'echo begun; exec sleep 64'])
  let stdout = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  await until('output while it runs', () => stdout === 'begun\n')
  child.kill('SIGINT')
  expect(await new Promise((resolve) => child.once('close', resolve))).not.toBe(0)
  const { stdout: processes } = await deltabox(
    'exec',
    id,
    '--',
    'bash',
    '-c',
    'cat /proc/[0-9]*/cmdline | tr "\\0" " "',
  )
  expect(processes).not.toContain('sleep 64')
  await deltabox('rm', id)
})

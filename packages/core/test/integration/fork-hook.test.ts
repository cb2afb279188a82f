// What is done in forks before their processes go on.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { setTimeout } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { sandboxDirs, until, useTestState } from '../support/state.js'

const state = useTestState()
const cli = fileURLToPath(new URL('../../bin/deltabox.js', import.meta.url))

/** Writes down all the time what it reads in /workspace/who. */
const WRITER = `
import time
while True:
    with open('/workspace/log', 'a') as log: log.write(open('/workspace/who').read() + '\\n')
    time.sleep(0.002)
`

async function startWriter(): Promise<Sandbox> {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.files.write('/workspace/who', 'lender')
  await sandbox.commands.run(['python3', '-c', WRITER], { background: true })
  await until('its first lines', async () => (await readLog(sandbox)).length > 5)
  return sandbox
}

const readLog = async (sandbox: Sandbox) =>
  (await sandbox.files.read('/workspace/log').catch(() => '')).split('\n').filter(Boolean)

test('a hook tells each fork apart before its processes take one step', async () => {
  await using sandbox = await startWriter()
  const before: number[] = []
  const { sandboxes, failures } = await sandbox.fork({
    count: 3,
    beforeThaw: async (fork, index) => {
      const { length } = await readLog(fork)
      await setTimeout(100)
      expect(await readLog(fork)).toHaveLength(length)
      expect((await fork.commands.run('grep ^State /proc/[0-9]*/status')).stdout).toMatch(/tracing stop/)
      await expect(fork.checkpoint()).rejects.toMatchObject({ code: 'BUSY' })
      await expect(fork.rollback((await fork.getInfo()).head ?? '')).rejects.toMatchObject({ code: 'BUSY' })
      await fork.files.write('/workspace/who', `fork ${index}`)
      before[index] = length
    },
  })
  expect(failures).toEqual([])
  for (const [index, fork] of sandboxes.entries()) {
    const since = async () => (await readLog(fork)).slice(before[index])
    await until('it goes on', async () => (await since()).length > 3)
    // What it had read at the checkpoint it may have yet to write.
    expect(new Set((await since()).slice(1))).toEqual(new Set([`fork ${index}`]))
    const checkpoint = await fork.checkpoint({ strict: true })
    await fork.rollback(checkpoint, { strict: true })
    await fork.kill()
  }
})

test('where a hook fails, that fork is not made, and nothing is left of it', async () => {
  await using sandbox = await startWriter()
  const made: string[] = []
  const { sandboxes, failures } = await sandbox.fork({
    count: 2,
    beforeThaw: (fork, index) => {
      made.push(fork.id)
      if (index === 1) throw new Error('no port is free')
    },
  })
  expect(failures).toEqual([expect.objectContaining({ message: 'no port is free' })])
  expect(made).toHaveLength(2)
  expect(sandboxDirs(state.stateDir).sort()).toEqual([sandbox.id, sandboxes[0]!.id].sort())
  await sandboxes[0]!.kill()
  const all = sandbox.fork({ beforeThaw: (fork) => fork.kill() })
  await expect(all).rejects.toMatchObject({ code: expect.any(String) as string })
  await expect(sandbox.fork({ beforeThaw: 'mv' as never })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  expect(sandboxDirs(state.stateDir)).toEqual([sandbox.id])
})

test('a fork whose client dies during its hook ends', async () => {
  await using sandbox = await startWriter()
  const client = spawn(process.execPath, [
    cli,
    'fork',
    sandbox.id,
    '--before-thaw',
    'touch /workspace/begun; sleep 1000',
  ])
  try {
    await until('the hook', async () => {
      const [fork] = (await Sandbox.list()).filter(({ id }) => id !== sandbox.id)
      if (fork === undefined) return false
      const other = await Sandbox.connect(fork.id).catch(() => undefined)
      const begun = await other?.files.exists('/workspace/begun').catch(() => false)
      other?.disconnect()
      return begun === true
    })
  } finally {
    client.kill('SIGKILL')
  }
  await until('its end', async () => (await Sandbox.list()).length === 1)
})

test('deltabox fork --before-thaw', async () => {
  await using sandbox = await startWriter()
  const run = (line: string) =>
    new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
      const child = spawn(process.execPath, [cli, 'fork', sandbox.id, '--count', '2', '--before-thaw', line])
      const output = { stdout: '', stderr: '' }
      child.stdout.on('data', (data) => (output.stdout += String(data)))
      child.stderr.on('data', (data) => (output.stderr += String(data)))
      child.on('close', (code) => resolve({ code, ...output }))
    })
  const { code, stdout } = await run('echo fork $DELTABOX_FORK > who')
  expect(code).toBe(0)
  const forks = stdout.trim().split('\n')
  expect(forks).toHaveLength(2)
  for (const [index, id] of forks.entries()) {
    await using fork = await Sandbox.connect(id)
    expect(await fork.files.read('/workspace/who')).toBe(`fork ${index}\n`)
    await fork.kill()
  }
  const failed = await run('echo no such port >&2; exit 3')
  expect(failed.code).toBe(1)
  expect(failed.stderr).toContain('--before-thaw ended with exit code 3: no such port')
  expect(sandboxDirs(state.stateDir)).toEqual([sandbox.id])
})

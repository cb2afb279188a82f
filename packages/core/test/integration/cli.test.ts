// The built program, each call a process of its own.
import { execFile, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { Sandbox, type CheckpointList } from '../../src/index.js'
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

test('--trace accounts for the whole pause, and top shows what runs', async () => {
  const created = await deltabox('create', '--workspace', state.workspace, '--name', 'a \x1b[31mname')
  const id = created.stdout.trim()
  await using sandbox = await Sandbox.connect(id)
  await sandbox.commands.run('exec python3 -c "while True: pass"', { background: true })
  const checkpoint = await deltabox('checkpoint', id, '--trace')
  const rollback = await deltabox('rollback', id, checkpoint.stdout.trim(), '--trace')
  for (const { stderr, names } of [
    { stderr: checkpoint.stderr, names: ['freeze', 'describe', 'scan', 'copy', 'switch', 'reopen', 'thaw', 'rest'] },
    {
      stderr: rollback.stderr,
      names: ['freeze', 'describe', 'scan', 'copy', 'switch', 'apply', 'thaw', 'rest'],
    },
  ]) {
    const lines = [...stderr.matchAll(/^( *)(\w+) +([\d.]+) ms/gm)].map(([, indent, name, ms]) => ({
      indent,
      name,
      ms: Number(ms),
    }))
    const parts = lines.filter(({ indent }) => indent !== '')
    expect(parts.map(({ name }) => name)).toEqual(names)
    const [pause, engine, call] = lines.filter(({ indent }) => indent === '')
    // Each is rounded to a hundredth of a millisecond.
    expect(parts.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(pause!.ms, 0)
    expect(engine!.ms).toBeGreaterThanOrEqual(pause!.ms)
    expect(call!.ms).toBeGreaterThanOrEqual(engine!.ms)
  }
  const once = await deltabox('top', '--once')
  expect(once.stdout).toMatch(new RegExp(`^ID .*LAST PAUSE\n${id} +a \\\\x1b\\[31mname +[\\d.]+ .* ms\n$`))
  const top = spawn(process.execPath, [cliPath, 'top', '--json', '--interval', '100'])
  let printed = ''
  top.stdout.on('data', (bytes: Buffer) => (printed += bytes.toString()))
  type Row = { id: string; cpuPercent: number; metrics: { tasks: number } }
  const looks = () =>
    printed
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Row[])
  await until('what it used between two looks', () =>
    looks()
      .slice(1)
      .some(([row]) => row!.cpuPercent > 0),
  )
  top.kill('SIGINT')
  await new Promise((resolve) => top.once('exit', resolve))
  expect(looks()[0]).toMatchObject([{ id, metrics: { tasks: 1 } }])
  expect((await deltabox('top', '--interval', '1')).code).toBe(2)
  await sandbox.kill()
  expect((await deltabox('top', '--once')).stdout).toBe('no running sandboxes\n')
})

test('create takes all that Sandbox.create does', async () => {
  const data = join(state.workspace, '..', 'data')
  mkdirSync(data)
  writeFileSync(join(data, 'file'), 'of the host\n')
  const places = ['--workspace', state.workspace, '--workspace-mount', '/project']
  const volumes = ['--volume', '/empty', '--volume', `${data}:/writable`, '--volume', `${data}:/shown:ro`]
  const limits = ['--processes', '100', '--open-files', '64', '--keep-last', '1', '--drop-named']
  const rest = ['--allow', 'a.example:443', '--allow', 'b.example', '--metadata', 'team=a', '--name', 'mine']
  const created = await deltabox('create', ...places, ...volumes, ...limits, ...rest, '--idle-timeout-ms', '600000')
  expect(created).toMatchObject({ code: 0, stderr: '' })
  await using sandbox = await Sandbox.connect(created.stdout.trim())
  expect(await sandbox.getInfo()).toMatchObject({
    workspaceMount: '/project',
    limits: { processes: 100, openFiles: 64 },
    network: { allow: ['a.example:443', 'b.example'] },
    metadata: { team: 'a', name: 'mine' },
    idleTimeoutMs: 600_000,
  })
  const script =
    'cat /shown/file; echo x > /writable/file && cat /writable/file; ls /empty; echo x > /shown/file; ulimit -n'
  const { stdout, stderr } = await sandbox.commands.run(script)
  expect(stdout).toBe('of the host\nx\n64\n')
  expect(stderr).toContain('Read-only file system')
  await sandbox.checkpoint({ name: 'first' })
  await sandbox.checkpoint({ name: 'second' })
  await until('the first is dropped', async () => (await sandbox.listCheckpoints()).checkpoints.length === 1)
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
  const forked = await deltabox('fork', id, '--from', 'first', '--count', '2', '--name', 'mine')
  expect(forked).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/^(sbx_\w+\n){2}$/) as string })
  for (const fork of forked.stdout.trim().split('\n')) {
    expect((await deltabox('tree', fork)).stdout).toMatch(new RegExp(`${first}  first  .*← head`))
    expect((await deltabox('rm', fork)).code).toBe(0)
  }
  expect(await deltabox('fork', id, '--count', 'many')).toMatchObject({ code: 1 })
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
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(130)
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

test('exec passes bytes and streams both ways', async () => {
  const id = (await deltabox('create', '--workspace', state.workspace)).stdout.trim()
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value))
  const child = spawn(process.execPath, [cliPath, 'exec', id, '--stdin', '--', 'cat'])
  const seen: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => seen.push(chunk))
  child.stdin.write(bytes)
  // Before the end of the input.
  await until('the echo', () => Buffer.concat(seen).length === 256)
  child.stdin.end(bytes)
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0)
  expect(Buffer.concat(seen)).toEqual(Buffer.concat([bytes, bytes]))
  // Input that nobody reads does not hold the program.
  const early = spawn(process.execPath, [cliPath, 'exec', id, '--stdin', '--', 'true'])
  expect(await new Promise((resolve) => early.once('close', resolve))).toBe(0)
  // A slow reader gets all of it.
  const { stdout } = spawnSync(
    'bash',
    ['-c', '"$1" "$2" exec "$3" -- head -c 3000000 /dev/zero | (sleep 1; wc -c)', '-', process.execPath, cliPath, id],
    { encoding: 'utf8' },
  )
  expect(stdout).toBe('3000000\n')
  await deltabox('rm', id)
})

test('Ctrl-C is the command’s, and the exit code says so', async () => {
  const id = (await deltabox('create', '--workspace', state.workspace)).stdout.trim()
  const run = async (script: string, ...signals: NodeJS.Signals[]) => {
    const child = spawn(process.execPath, [cliPath, 'exec', id, '--', 'bash', '-c', `echo begun; ${script}`])
    let stdout = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    await until('output', () => stdout.startsWith('begun\n'))
    for (const signal of signals) {
      child.kill(signal)
      await new Promise((resolve) => setTimeout(resolve, 300))
    }
    const code = await new Promise((resolve) =>
      child.exitCode !== null ? resolve(child.exitCode) : child.once('close', resolve),
    )
    return { code, stdout }
  }
  expect(await run('exec sleep 64', 'SIGINT')).toEqual({ code: 130, stdout: 'begun\n' })
  expect(await run('exec sleep 64', 'SIGTERM')).toEqual({ code: 143, stdout: 'begun\n' })
  const tidy = await run('trap "echo tidied; exit 5" INT; while :; do sleep 0.05; done', 'SIGINT')
  expect(tidy).toEqual({ code: 5, stdout: 'begun\ntidied\n' })
  expect((await run('trap "" INT; while :; do sleep 0.05; done', 'SIGINT', 'SIGINT')).code).toBe(130)
  await until('nobody is left', async () => {
    const { stdout } = await deltabox('exec', id, '--', 'bash', '-c', 'cat /proc/[0-9]*/comm | grep -c sleep')
    return stdout === '0\n'
  })
  await deltabox('rm', id)
})

test('rm removes what is there and reports what is not; ls shows names as they can be shown', async () => {
  const name = 'bad\x1b[31m\nname'
  const id = (await deltabox('create', '--workspace', state.workspace, '--name', name)).stdout.trim()
  const { stdout } = await deltabox('ls')
  expect(stdout).toContain(String.raw`bad\x1b[31m\x0aname`)
  // eslint-disable-next-line no-control-regex -- none may come through
  expect(stdout.replaceAll('\n', '')).not.toMatch(/[\x00-\x1f]/)
  const removed = await deltabox('rm', 'sbx_aaaaaaaaaaaa', id, 'sbx_bbbbbbbbbbbb', 'x')
  expect(removed).toMatchObject({ stdout: `${id}\n`, code: 1 })
  expect(removed.stderr.match(/^error (\w+)/gm)).toEqual([
    ...['error SANDBOX_NOT_FOUND', 'error SANDBOX_NOT_FOUND', 'error INVALID_ARGUMENT'],
  ])
  expect(sandboxDirs(state.stateDir)).toEqual([])
  const json = JSON.parse((await deltabox('rm', '--json', 'sbx_aaaaaaaaaaaa')).stdout) as unknown
  expect(json).toMatchObject({ removed: [], error: { code: 'SANDBOX_NOT_FOUND' } })
  expect((await deltabox('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})

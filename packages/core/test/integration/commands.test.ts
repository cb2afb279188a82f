import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { isDeltaboxError, Sandbox } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })

test('results are truthful: exit codes, signals, both streams, arguments, environment, cwd, stdin', async () => {
  await using sandbox = await create()
  const { commands } = sandbox
  expect(await commands.run('echo out; echo err >&2; exit 3')).toEqual({
    ...{ exitCode: 3, signal: null, stdout: 'out\n', stderr: 'err\n' },
    ...{ truncated: false, timedOut: false, rolledBack: false, limit: null },
  })
  expect(await commands.run('kill -TERM $$')).toMatchObject({ exitCode: null, signal: 'SIGTERM' })
  expect((await commands.run(['printf', '%s|', 'a b', '$HOME', ''])).stdout).toBe('a b|$HOME||')
  expect(
    (await commands.run('echo $HOME $USER $EXTRA; pwd', { envs: { EXTRA: 'x' }, cwd: '/workspace/src' })).stdout,
  ).toBe('/root root x\n/workspace/src\n')
  process.env['DELTABOX_SECRET'] = 'of the client'
  expect((await commands.run('env')).stdout).not.toContain('DELTABOX_')
  delete process.env['DELTABOX_SECRET']
  const text = 'line €\n'.repeat(50_000)
  expect((await commands.run('cat', { stdin: text })).stdout).toBe(text)
  expect((await commands.run('head -c 1', { stdin: text })).stdout).toBe('l')
  expect((await commands.run('cat; echo ended')).stdout).toBe('ended\n')
})

test('output streams while the command runs, and memory is bounded', async () => {
  await using sandbox = await create()
  const pieces: string[] = []
  const running = sandbox.commands.run('printf "€"; sleep 0.3; echo second', {
    onStdout: (piece) => pieces.push(piece),
  })
  await until('the first piece', () => pieces.length > 0, 5000)
  expect(pieces).toEqual(['€'])
  expect((await running).stdout).toBe('€second\n')

  let seenBytes = 0
  const big = await sandbox.commands.run('head -c 3000000 /dev/zero | tr "\\0" x', {
    maxOutputBytes: 1000,
    onStdout: (piece) => (seenBytes += piece.length),
  })
  expect([big.stdout.length, big.truncated, seenBytes]).toEqual([1000, true, 3_000_000])
})

test('a left-behind child that holds the pipes does not hold the result', async () => {
  await using sandbox = await create()
  const startMs = performance.now()
  const { exitCode, stdout } = await sandbox.commands.run('sleep 30 & echo done')
  expect([exitCode, stdout]).toEqual([0, 'done\n'])
  expect(performance.now() - startMs).toBeLessThan(10_000)
})

test('a time-out and an abort kill the whole group and keep what was printed', async () => {
  await using sandbox = await create()
  const late = await sandbox.commands
    .run('echo before; (sleep 61; echo never) & sleep 62', { timeoutMs: 500 })
    .catch((error: unknown) => error)
  if (!isDeltaboxError(late, 'TIMEOUT')) throw late
  expect(late.data).toMatchObject({ stdout: 'before\n', timedOut: true })

  const abort = new AbortController()
  const aborted = sandbox.commands.run('echo here; sleep 63', { signal: abort.signal, onStdout: () => abort.abort() })
  await expect(aborted).rejects.toMatchObject({ code: 'ABORTED', data: { stdout: 'here\n' } })
  await expect(sandbox.commands.run('true', { signal: abort.signal })).rejects.toMatchObject({ code: 'ABORTED' })

  await until('no sleeper is left', async () => {
    const { stdout } = await sandbox.commands.run('cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " "; true')
    return !/sleep 6\d/.test(stdout)
  })
})

test('an input that was ended is open again where it was, and ended where it had been', async () => {
  await using sandbox = await create()
  const cat = await sandbox.commands.run('cat; echo ended; cat > /dev/null; sleep 1000', {
    background: true,
    stdin: true,
  })
  await cat.sendStdin('one\n')
  await until('one', () => cat.stdout === 'one\n')
  const open = await sandbox.checkpoint({ strict: true })
  await cat.closeStdin()
  await until('the end', () => cat.stdout.endsWith('ended\n'))
  const ended = await sandbox.checkpoint({ strict: true })
  await sandbox.rollback(open, { strict: true })
  await cat.sendStdin('two\n')
  await until('two', () => cat.stdout.endsWith('two\n'))
  await sandbox.rollback(ended, { strict: true })
  await expect(cat.sendStdin('three\n')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  // The same for one that was killed, and is made again.
  await sandbox.commands.run('kill -9 -1')
  await cat.wait()
  await sandbox.rollback(open, { strict: true })
  const again = await sandbox.commands.connect(cat.commandId)
  await again.sendStdin('four\n')
  await until('four', () => again.stdout.endsWith('four\n'))
  await sandbox.commands.run('kill -9 -1')
  await again.wait()
  await sandbox.rollback(ended, { strict: true })
  const last = await sandbox.commands.connect(cat.commandId)
  await expect(last.sendStdin('five\n')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('background commands: handle, stdin, list, kill, and output that waits in the engine', async () => {
  await using sandbox = await create()
  const { commands } = sandbox
  const cat = await commands.run('cat; echo closed', { background: true, label: 'a cat' })
  await cat.sendStdin('one\n')
  await until('the echo', () => cat.stdout === 'one\n')
  expect(await commands.list()).toMatchObject([
    { commandId: cat.commandId, pid: cat.pid, background: true, label: 'a cat', running: true, exitCode: null },
  ])
  const later = await commands.connect(cat.commandId)
  await until('the spool is replayed', () => later.stdout === 'one\n')
  await commands.sendStdin(cat.commandId, 'two\n')
  await commands.closeStdin(cat.commandId)
  expect(await cat.wait()).toMatchObject({ exitCode: 0, stdout: 'one\ntwo\nclosed\n' })
  expect(await later.wait()).toMatchObject({ stdout: 'one\ntwo\nclosed\n' })
  expect(cat.isRunning).toBe(false)

  const sleeper = await commands.run('sleep 60', { background: true })
  await sleeper.kill('SIGTERM')
  expect(await sleeper.wait()).toMatchObject({ exitCode: null, signal: 'SIGTERM' })
  const ended = await commands.connect(sleeper.commandId)
  expect(await ended.wait()).toMatchObject({ signal: 'SIGTERM' })
})

test('a client that disconnects takes its foreground commands with it and leaves the background ones', async () => {
  await using sandbox = await create()
  const other = await Sandbox.connect(sandbox.id)
  const foreground = other.commands.run('sleep 60').catch((error: unknown) => error)
  const background = await other.commands.run('sleep 60', { background: true })
  await until('both run', async () => (await sandbox.commands.list()).filter(({ running }) => running).length === 2)
  other.disconnect()
  expect(await foreground).toMatchObject({ code: 'ENGINE_LOST' })
  await until('only the background command runs', async () => {
    const running = (await sandbox.commands.list()).filter((command) => command.running)
    return running.length === 1 && running[0]?.commandId === background.commandId
  })
})

test('wrong calls are refused with their code', async () => {
  await using sandbox = await create()
  const { commands } = sandbox
  for (const wrong of ['', [], ['a\0b']]) {
    await expect(commands.run(wrong)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }
  await expect(commands.run('true', { timeoutMs: 0 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(commands.run('true', { cwd: 'relative' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(commands.run('true', { envs: { 'A=B': 'x' } })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(commands.run('true', { cwd: '/nowhere' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(commands.run(['no-such-program'])).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
  await expect(commands.kill(999)).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
  await expect(commands.sendStdin(999, 'x')).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
  await expect(commands.connect(999)).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
  expect((await commands.run('no-such-program')).exitCode).toBe(127)
})

test('a command runs as another user, or the call says why it cannot', async () => {
  await using sandbox = await create()
  const { commands } = sandbox
  await expect(commands.run('true', { user: 'no-such-user' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  expect((await commands.run('id -u', { user: 'root' })).stdout).toBe('0\n')
  const asNobody = commands.run('id -un; id -u; echo $HOME $USER; touch /workspace/mine', { user: 'nobody' })
  if (process.getuid?.() !== 0) {
    await expect(asNobody).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching('one id') as string,
    })
    return
  }
  const { stdout, exitCode, stderr } = await asNobody
  expect(stdout).toBe('nobody\n65534\n/nonexistent nobody\n')
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining('Permission denied')])
  const byUid = await commands.run('id -un; grep CapEff /proc/self/status; umask', { user: 65534, background: true })
  expect(await byUid.wait()).toMatchObject({ stdout: 'nobody\nCapEff:\t0000000000000000\n0022\n' })
  expect((await commands.list()).at(-1)).toMatchObject({ user: 'nobody' })
  // Its processes are captured and rolled back like root's.
  const cat = await commands.run(['cat'], { user: 'daemon', background: true })
  const before = await sandbox.checkpoint()
  await sandbox.rollback(before)
  await cat.sendStdin('still there\n')
  await until('the echo', () => cat.stdout === 'still there\n')
})

test('stdin streams, and output is passed on as bytes, held back by its reader', async () => {
  await using sandbox = await create()
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value))
  async function* slowly() {
    for (let piece = 0; piece < 4; piece += 1) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      yield bytes
    }
  }
  const seen: Uint8Array[] = []
  const result = await sandbox.commands.run('cat; printf "\\377" >&2', {
    stdin: slowly(),
    onStdoutBytes: (piece) => void seen.push(piece),
    onStderrBytes: (piece) => void seen.push(piece),
  })
  expect(result.exitCode).toBe(0)
  expect(Buffer.concat(seen)).toEqual(Buffer.concat([bytes, bytes, bytes, bytes, Buffer.of(255)]))

  let taken = 0
  const slowReader = await sandbox.commands.run('head -c 400000 /dev/zero', {
    maxOutputBytes: 0,
    onStdoutBytes: async (piece) => {
      await new Promise((resolve) => setTimeout(resolve, 100))
      taken += piece.length
    },
  })
  expect([slowReader.exitCode, taken]).toEqual([0, 400_000])

  // A source that never ends is left when the command ends, and one that fails ends the command.
  async function* forever() {
    yield 'one\n'
    await new Promise(() => undefined)
  }
  expect((await sandbox.commands.run('head -n 1', { stdin: forever() })).stdout).toBe('one\n')
  let answered = (): void => undefined
  async function* failing(): AsyncGenerator<string> {
    yield 'one\n'
    // Once the command has answered.
    await new Promise<void>((resolve) => (answered = resolve))
    throw new Error('broken source')
  }
  await expect(
    sandbox.commands.run('cat; sleep 60', { stdin: failing(), onStdout: () => answered() }),
  ).rejects.toMatchObject({
    code: 'ABORTED',
    message: expect.stringContaining('broken source') as string,
    data: { stdout: 'one\n' },
  })
})

test('the output of a background command survives its client, which was killed', async () => {
  await using sandbox = await create()
  const script = `
    import { Sandbox } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}
    const sandbox = await Sandbox.connect(${JSON.stringify(sandbox.id)})
    const { commandId } = await sandbox.commands.run('echo first; sleep 0.5; echo second; cat', { background: true })
    process.stdout.write(String(commandId) + '\\n')
    process.kill(process.pid, 'SIGKILL')`
  const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  expect(signal).toBe('SIGKILL')
  const handle = await sandbox.commands.connect(Number(stdout))
  await until('both lines', () => handle.stdout === 'first\nsecond\n')
  await handle.sendStdin('third\n')
  await handle.closeStdin()
  expect(await handle.wait()).toMatchObject({ exitCode: 0, stdout: 'first\nsecond\nthird\n' })
})

import { expect, test } from 'vitest'
import { Sandbox, type PtyOptions } from '../../src/index.js'
import { killEngine } from '../support/dead-engine.js'
import { Screen } from '../support/screen.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })

test('a shell on a terminal: its size, its signals, its input, its end', async () => {
  await using sandbox = await create()
  const { shell, ask } = await Screen.open(sandbox, { cols: 100, rows: 30, envs: { TERM: 'vt100', EXTRA: 'x' } })
  await ask('tty; stty size; echo "$TERM $EXTRA"; pwd\n', /\/dev\/pts\/\d+\r\n30 100\r\nvt100 x\r\n\/workspace\r\n/)
  await shell.resize({ cols: 50, rows: 20 })
  await ask('stty size\n', /[\r\n]20 50\r\n/)
  await sandbox.pty.resize(shell.pid, { cols: 51, rows: 21 })
  await ask('stty size\n', /[\r\n]21 51\r\n/)
  await ask('trap "echo changed" WINCH\n', /# $/)
  await sandbox.pty.resize(shell.pid, { cols: 60, rows: 22 })
  await ask('\n', /changed/)
  await ask('cat\n', /cat\r\n/)
  await ask('echoed twice\n', /echoed twice\r\nechoed twice\r\n/)
  await ask('\x03', /\^C[^]*# $/)
  await sandbox.pty.sendInput(shell.pid, 'exit 3\n')
  expect(await shell.wait()).toEqual({ exitCode: 3, signal: null, limit: null })
  await expect(shell.sendInput('x')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(sandbox.pty.sendInput(shell.pid, 'x')).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
})

test('other commands than bash, an end by signal, and the list', async () => {
  await using sandbox = await create()
  const sleeper = await sandbox.pty.create({ command: ['sleep', '60'], label: 'a sleeper' })
  expect(await sandbox.commands.list()).toMatchObject([
    { pid: sleeper.pid, terminal: true, background: true, running: true, label: 'a sleeper' },
  ])
  await sandbox.pty.kill(sleeper.pid)
  expect(await sleeper.wait()).toEqual({ exitCode: null, signal: 'SIGKILL', limit: null })
  const orphan = await sandbox.pty.create({ command: ['bash', '-c', 'sleep 65 & setsid sleep 66 & sleep 67'] })
  await orphan.kill()
  await until('nobody is left', async () => (await sandbox.getInfo()).tasks === 0)
})

test('the shell outlives its client, and another one sees what it printed', async () => {
  await using sandbox = await create()
  const other = await Sandbox.connect(sandbox.id)
  const { shell, ask } = await Screen.open(other)
  await ask('KEPT=yes; echo "<printed>"\n', /[\r\n]<printed>/)
  other.disconnect()
  await expect(shell.wait()).rejects.toMatchObject({ code: 'ENGINE_LOST' })
  let seen = ''
  const again = await sandbox.pty.connect(shell.pid, { onData: (data) => (seen += Buffer.from(data).toString()) })
  await until('the spool is replayed', () => /[\r\n]<printed>/.test(seen))
  await again.sendInput('echo "<still $KEPT>"; exit\n')
  expect(await again.wait()).toEqual({ exitCode: 0, signal: null, limit: null })
  expect(seen).toMatch(/[\r\n]<still yes>/)
  await expect(sandbox.pty.connect(again.pid)).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
})

test('a rollback gives the prompt back: the job that ran since is ended, the shell and its variables are as they were', async () => {
  await using sandbox = await create()
  const { shell, ask } = await Screen.open(sandbox)
  await ask('X=1; echo "<set>"\n', /[\r\n]<set>[^]*# $/)
  const before = await sandbox.checkpoint({ strict: true })
  for (let round = 0; round < 3; round += 1) {
    await ask('X=2; stty -echo; echo "<changed>"; exec 9>/dev/tty; sleep 72\n', /[\r\n]<changed>/)
    await until('the job runs', async () => (await sandbox.getInfo()).tasks === 2)
    expect((await sandbox.rollback(before)).endedProcesses).toBe(1)
    // Its own echo is seen again, and the line editor works.
    await ask('echo "<X is $X>"\n', /echo "<X is \$X>"[^]*[\r\n]<X is 1>/)
  }
  expect(shell.isRunning).toBe(true)
})

/** That the shell has its variable, its window, its job and the control over its jobs. */
async function expectSameShell({ ask }: Screen): Promise<void> {
  await ask('\n', /# $/)
  await ask('echo "<$X>"; tty; stty size; jobs\n', /<1>\r\n\/dev\/pts\/0\r\n20 70\r\n[^]*Stopped[^]*sleep 81[^]*# $/)
  await ask('fg\n', /sleep 81\r\n/)
  await ask('\x1a', /Stopped[^]*# $/)
  await ask('kill %1; wait; read -p "<name?>" NAME </dev/tty\n', /<name\?>$/)
  await ask('typed\n', /# $/)
  await ask('X=2; echo "<$NAME>"\n', /[\r\n]<typed>/)
}

async function openWithStoppedJob(sandbox: Sandbox): Promise<Screen> {
  const screen = await Screen.open(sandbox, { cols: 70, rows: 20 })
  await screen.ask('X=1; sleep 81\n', /sleep 81\r\n/)
  await until('the job runs', async () => (await sandbox.getInfo()).tasks === 2)
  await screen.ask('\x1a', /Stopped[^]*# $/)
  return screen
}

test('a shell that was killed with all its jobs comes back to its terminal', async () => {
  await using sandbox = await create()
  const { shell } = await openWithStoppedJob(sandbox)
  const before = await sandbox.checkpoint({ strict: true })
  for (let round = 0; round < 3; round += 1) {
    await sandbox.commands.run('kill -9 -1')
    await until('nobody is left', async () => (await sandbox.getInfo()).tasks === 0)
    // Somebody else has its number by now.
    if (round > 0) await sandbox.pty.create({ command: ['sleep', '82'] })
    await sandbox.rollback(before, { strict: true })
    await expectSameShell(await Screen.connect(sandbox, shell.pid))
  }
})

test('a shell lives on in forks, each with a terminal of its own', async () => {
  await using sandbox = await create()
  const screen = await openWithStoppedJob(sandbox)
  const { sandboxes, failures } = await sandbox.fork({ count: 2 })
  expect(failures).toEqual([])
  for (const fork of sandboxes) {
    expect((await fork.getInfo()).warnings).toEqual([])
    await expectSameShell(await Screen.connect(fork, screen.shell.pid))
    await fork.kill()
  }
  await expectSameShell(screen)
})

test('a shell lives on after the death of the engine', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace, durability: 'processes' })
  const { shell } = await openWithStoppedJob(sandbox)
  await sandbox.checkpoint({ strict: true })
  await until('it is durable', async () =>
    (await sandbox.listCheckpoints()).checkpoints.every(({ durable }) => durable),
  )
  await killEngine(sandbox)
  await using again = await Sandbox.connect(sandbox.id)
  await expectSameShell(await Screen.connect(again, shell.pid))
})

test('a rollback to before the shell ends it, and its handles are stale', async () => {
  await using sandbox = await create()
  const before = await sandbox.checkpoint()
  const shell = await sandbox.pty.create()
  await sandbox.rollback(before)
  await expect(shell.wait()).rejects.toMatchObject({ code: 'ROLLED_BACK' })
  await expect(shell.sendInput('x')).rejects.toMatchObject({ code: 'STALE_GENERATION' })
  await expect(shell.resize({ cols: 1, rows: 1 })).rejects.toMatchObject({ code: 'STALE_GENERATION' })
})

test('a command that does not read holds nobody up, and a flood of output neither', async () => {
  await using sandbox = await create()
  const deaf = await sandbox.pty.create({ command: ['bash', '-c', 'stty raw -echo; echo ready; exec sleep 60'] })
  const full = async () => {
    for (;;) await deaf.sendInput(Buffer.alloc(256 << 10, 'x'))
  }
  await expect(full()).rejects.toMatchObject({ code: 'BUSY' })
  let bytes = 0
  const flood = await sandbox.pty.create({ command: ['yes'], onData: (data) => (bytes += data.length) })
  await until('much output', () => bytes > 5 << 20)
  expect((await sandbox.commands.run('echo reacts')).stdout).toBe('reacts\n')
  await flood.sendInput('\x03')
  expect(await flood.wait()).toEqual({ exitCode: null, signal: 'SIGINT', limit: null })
})

test('wrong calls are refused with their code', async () => {
  await using sandbox = await create()
  const { pty } = sandbox
  for (const wrong of [{ cols: 0 }, { rows: 1.5 }, { cols: 100_000 }, { command: [] }, { cwd: 'x' }, { bogus: 1 }]) {
    await expect(pty.create(wrong as PtyOptions), JSON.stringify(wrong)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
  }
  await expect(pty.create({ command: ['no-such-program'] })).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
  await expect(pty.create({ cwd: '/nowhere' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(pty.connect(999)).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
  await expect(pty.kill(999)).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
  const plain = await sandbox.commands.run('sleep 60', { background: true })
  await expect(pty.resize(plain.pid, { cols: 1, rows: 1 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

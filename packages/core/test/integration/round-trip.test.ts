// The main promise: files and live processes there and back, as one pair.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isDeltaboxError, Sandbox, type CommandHandle } from '../../src/index.js'
import { killAll } from '../support/processes.js'
import { enginePids, sandboxDirs, until, untilEnginesAre, useTestState } from '../support/state.js'

const state = useTestState()

/** Asks a Python session and waits for the answer on its stdout. */
async function ask(python: CommandHandle, expression: string): Promise<string> {
  const before = python.stdout.length
  await python.sendStdin(`print("=" + str(${expression}))\n`)
  await until(`an answer to ${expression}`, () => /=.*\n/.test(python.stdout.slice(before)))
  return /=(.*)\n/.exec(python.stdout.slice(before))?.[1] ?? ''
}

const startPython = (sandbox: Sandbox) => sandbox.commands.run(['python3', '-i', '-q', '-u'], { background: true })

test('create, run, files, checkpoint, rollback, kill', async () => {
  const enginesBefore = enginePids()
  const sandbox = await Sandbox.create({ workspace: state.workspace, metadata: { name: 'first' } })
  expect(sandbox.id).toMatch(/^sbx_[a-z2-7]{12}$/)
  expect(await sandbox.isRunning()).toBe(true)
  expect(await sandbox.commands.run('pwd; cat src/main.txt')).toMatchObject({
    exitCode: 0,
    stdout: '/workspace\noriginal\n',
  })

  const checkpoint = await sandbox.checkpoint({ name: 'start', metadata: { why: 'test' } })
  expect(checkpoint).toMatchObject({ parent: null, name: 'start', metadata: { why: 'test' }, isSafety: false })
  expect(checkpoint.callMs).toBeGreaterThanOrEqual(checkpoint.pauseMs)

  await sandbox.files.write('src/main.txt', 'changed\n')
  await sandbox.files.write('src/new/deep/file.bin', Uint8Array.of(0, 255, 10))
  await sandbox.commands.run('rm README.md')
  expect(await sandbox.files.read('src/main.txt')).toBe('changed\n')
  expect(await sandbox.files.read('/workspace/src/new/deep/file.bin', { format: 'bytes' })).toEqual(
    Buffer.from([0, 255, 10]),
  )

  const done = await sandbox.rollback(checkpoint)
  expect(done).toMatchObject({ checkpoint: checkpoint.id, notRestored: [] })
  expect(await sandbox.files.read('src/main.txt')).toBe('original\n')
  expect(await sandbox.files.read('README.md')).toBe('# a project\n')
  await expect(sandbox.files.read('src/new/deep/file.bin')).rejects.toMatchObject({ code: 'NOT_FOUND' })

  await sandbox.rollback(done.safetyCheckpoint ?? '')
  expect(await sandbox.files.read('src/main.txt')).toBe('changed\n')
  expect(readFileSync(join(state.workspace, 'src', 'main.txt'), 'utf8')).toBe('original\n')

  expect(enginePids()).toContain((await sandbox.getInfo()).enginePid)
  await sandbox.kill()
  await sandbox.kill()
  expect(await sandbox.isRunning()).toBe(false)
  expect(sandboxDirs(state.stateDir)).toEqual([])
  await untilEnginesAre(enginesBefore)
})

test('a live Python session has its variables and its pid back', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const python = await startPython(sandbox)
  await python.sendStdin('import os, hashlib\nvalues = {n: n * n for n in range(50_000)}\n')
  const digest = 'hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()'
  const before = [await ask(python, digest), await ask(python, 'os.getpid()')]
  expect(before[1]).toBe(String(python.pid))
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.processes).toBeGreaterThanOrEqual(1)

  await python.sendStdin('values = "gone"\nopen("written", "w").write("x")\n')
  expect(await ask(python, 'values')).toBe('gone')
  const done = await sandbox.rollback(checkpoint)
  expect(done.processes).toBeGreaterThanOrEqual(1)
  expect([await ask(python, digest), await ask(python, 'os.getpid()')]).toEqual(before)
  expect(await ask(python, 'os.path.exists("written")')).toBe('False')
  expect(python.isRunning).toBe(true)
})

test('two rollbacks to different nodes of the tree, forward and back', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const python = await startPython(sandbox)
  const mark = async (value: number) => {
    await python.sendStdin(`value = ${value}\n`)
    expect(await ask(python, 'value')).toBe(String(value))
    await sandbox.files.write('value', String(value))
    return sandbox.checkpoint({ name: `value ${value}` })
  }
  const one = await mark(1)
  const two = await mark(2)
  await sandbox.rollback(one)
  const three = await mark(3)
  expect([two.parent, three.parent]).toEqual([one.id, one.id])

  for (const [target, value] of [
    [two, 2],
    [three, 3],
    [one, 1],
    [three, 3],
  ] as const) {
    await sandbox.rollback(target, { redo: false })
    expect(await ask(python, 'value')).toBe(String(value))
    expect(await sandbox.files.read('value')).toBe(String(value))
    expect((await sandbox.listCheckpoints()).head).toBe(target.id)
  }
  await sandbox.rollback('value 2')
  expect(await ask(python, 'value')).toBe('2')
})

test('a command started after the checkpoint is ended by the rollback and says so', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const checkpoint = await sandbox.checkpoint()
  let heard = ''
  const foreground = sandbox.commands
    .run('echo begun; sleep 60', { onStdout: (text) => (heard += text) })
    .catch((error: unknown) => error)
  const background = await sandbox.commands.run('sleep 60', { background: true })
  const events: string[] = []
  sandbox.onRolledBack((event) => events.push(event.checkpoint))
  await until('the foreground command runs', () => heard === 'begun\n')

  await sandbox.rollback(checkpoint)
  const error = await foreground
  if (!isDeltaboxError(error, 'ROLLED_BACK')) throw error
  expect(error.data).toMatchObject({ stdout: 'begun\n', rolledBack: true })
  await expect(background.wait()).rejects.toMatchObject({ code: 'ROLLED_BACK' })
  expect(events).toEqual([checkpoint.id])
})

test('another client sees the same sandbox, its checkpoints and its background commands', async () => {
  await using first = await Sandbox.create({ workspace: state.workspace })
  const python = await startPython(first)
  await python.sendStdin('value = 41\n')
  const checkpoint = await first.checkpoint({ name: 'shared' })
  first.disconnect()

  const second = await Sandbox.connect(first.id)
  expect((await second.listCheckpoints()).checkpoints.map(({ id, name }) => [id, name])).toEqual([
    [checkpoint.id, 'shared'],
  ])
  const again = await second.commands.connect(python.commandId)
  expect(again.pid).toBe(python.pid)
  expect(await ask(again, 'value + 1')).toBe('42')
  expect(await Sandbox.list()).toMatchObject([{ id: first.id, state: 'running', workspace: state.workspace }])
  second.disconnect()
})

test('a child that was forked after the volume of its program was sealed is made again', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.commands.run(
    'cp "$(readlink -f /usr/bin/python3)" /workspace/interpreter; head -c 8192 /dev/zero > zeros',
  )
  const source = `
import mmap, os, signal, sys
mapped = mmap.mmap(os.open('/workspace/zeros', os.O_RDONLY), 8192, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
mapped[0:4] = b'mine'
print('ready', flush=True)
for line in sys.stdin:
    if line == 'fork\\n':
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            while os.read(source, 1): os.write(1, b'%r\\n' % mapped[0:6])
            os._exit(0)
        print('forked', flush=True)
    else:
        os.write(sink, b'x')
`
  const argv = ['/workspace/interpreter', '-c', source]
  const program = await sandbox.commands.run(argv, { background: true, envs: { PYTHONHOME: '/usr' } })
  await until('the program', () => program.stdout.includes('ready'))
  await sandbox.files.write('/workspace/change', 'one')
  await sandbox.checkpoint({ strict: true })
  await program.sendStdin('fork\n')
  await until('the child', () => program.stdout.includes('forked'))
  await sandbox.files.write('/workspace/change', 'two')
  const checkpoint = await sandbox.checkpoint({ strict: true })
  await killAll(sandbox)
  await sandbox.rollback(checkpoint, { strict: true })
  const again = await sandbox.commands.connect(program.commandId)
  await again.sendStdin('ask\n')
  await until('an answer of the child', () => again.stdout.includes("b'mine\\x00\\x00'"))
})

/** Ends children all the time that forbid to look into them and have much to close. */
const ENDING = `
import ctypes, os
print('begun', flush=True)
while True:
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE
        for _ in range(800): os.open('/', os.O_RDONLY)
        os._exit(0)
    os.waitpid(child, 0)
`

test('processes that are just ending and had forbidden dumps keep no checkpoint from being made', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const ending = await sandbox.commands.run(['python3', '-c', ENDING], { background: true })
  await until('its start', () => ending.stdout.includes('begun'))
  for (let round = 0; round < 100; round++) {
    const checkpoint = await sandbox.checkpoint({ strict: true })
    await sandbox.deleteCheckpoint(checkpoint)
  }
})

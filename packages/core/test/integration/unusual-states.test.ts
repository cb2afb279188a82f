// What programs rarely do, and what must not take the rollback of a whole sandbox with it.
import { expect, test } from 'vitest'
import { Sandbox, type CommandHandle } from '../../src/index.js'
import { killAll } from '../support/processes.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()

/** A Python program that has come to the line `ready`, and evaluates what it is sent. */
async function startPython(sandbox: Sandbox, source: string): Promise<CommandHandle> {
  const program = `import sys\n${source}\nprint('ready', flush=True)\nfor line in sys.stdin: print(eval(line), flush=True)`
  const python = await sandbox.commands.run(['python3', '-c', program], { background: true, stdin: true })
  await until('the program', () => python.stdout === 'ready\n' || !python.isRunning)
  expect(python.stderr).toBe('')
  return python
}

async function ask(sandbox: Sandbox, python: CommandHandle, line: string): Promise<string> {
  const command = await sandbox.commands.connect(python.commandId)
  const from = command.stdout.length
  await command.sendStdin(`${line}\n`)
  await until('an answer', () => command.stdout.slice(from).endsWith('\n'))
  return command.stdout.slice(from).trim()
}

test('memory that was reserved beyond what the machine has comes back', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const NORESERVE = 0x4000
  const python = await startPython(
    sandbox,
    `import mmap; m = mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | ${NORESERVE}); m[5] = 1`,
  )
  const checkpoint = await sandbox.checkpoint({ strict: true })
  await ask(sandbox, python, 'm.__setitem__(5, 2)')
  await killAll(sandbox)
  await sandbox.rollback(checkpoint, { strict: true })
  expect(await ask(sandbox, python, 'm[5]')).toBe('1')
})

test('guard pages are reported and stay; the rest of the process is rolled back', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const GUARD_INSTALL = 102
  const python = await startPython(
    sandbox,
    `import ctypes, mmap
m = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); libc = ctypes.CDLL(None, use_errno=True)
address = ctypes.addressof(ctypes.c_char.from_buffer(m))
assert libc.madvise(ctypes.c_void_p(address), 4096, ${GUARD_INSTALL}) == 0
m[8192] = 1`,
  )
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.warnings.map(({ kind }) => kind)).toEqual(['guard-pages'])
  await ask(sandbox, python, 'm.__setitem__(8192, 2)')
  expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
  expect(await ask(sandbox, python, 'm[8192]')).toBe('1')
})

test('a connection whose close would linger for an hour does not hold up the rollback that closes it', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const python = await startPython(
    sandbox,
    `import socket, struct
listener = socket.create_server(('127.0.0.1', 0))
kept = []
def fill():
    client = socket.create_connection(listener.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 3600))
    client.setblocking(False)
    try:
        while True: client.send(bytes(1 << 20))
    except BlockingIOError: kept.append(client)
    return len(kept)`,
  )
  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect(await ask(sandbox, python, 'fill()')).toBe('1')
  await sandbox.rollback(checkpoint, { strict: true })
  expect(await ask(sandbox, python, 'len(kept)')).toBe('0')
  expect(await ask(sandbox, python, 'fill()')).toBe('1')
})

test('a program under ThreadSanitizer, whose shadow memory is nearly everywhere, is checkpointed', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.files.write('wait.c', '#include <unistd.h>\nint main() { pause(); }\n')
  const built = await sandbox.commands.run('gcc -fsanitize=thread wait.c -o wait')
  expect(built.stderr).toBe('')
  const command = await sandbox.commands.run('./wait', { background: true })
  await until('its start', async () => (await sandbox.commands.run('pgrep -x wait')).exitCode === 0)
  const checkpoint = await sandbox.checkpoint({ strict: true })
  const { notRestored } = await sandbox.rollback(checkpoint)
  // It has mapped a file that it removed at once.
  expect(notRestored.filter(({ kind }) => kind !== 'mapping')).toEqual([])
  expect(command.isRunning).toBe(true)
})

test('what waits in sockets and is not captured is reported', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await startPython(
    sandbox,
    `import socket, time
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
for record in (b'x', b'', b'y'): a.send(record)
server = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(server.getsockname()); d, _ = server.accept()
c.send(b'1'); c.send(b'!', socket.MSG_OOB); time.sleep(0.1)`,
  )
  const { warnings } = await sandbox.checkpoint()
  const reasons = warnings.map(({ reason }) => reason).join('\n')
  expect(reasons).toContain('an empty datagram waits in it')
  expect(reasons).toContain('urgent data waits in it')
})

test('a program that looks into its sockets from the middle finds its place and its bytes', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const PEEK_OFF = 42
  const python = await startPython(
    sandbox,
    `import socket
a, b = socket.socketpair(); a.send(b'waiting'); b.setsockopt(socket.SOL_SOCKET, ${PEEK_OFF}, 3)`,
  )
  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect(await ask(sandbox, python, `b.getsockopt(socket.SOL_SOCKET, ${PEEK_OFF})`)).toBe('3')
  expect(await ask(sandbox, python, 'b.recv(100)')).toBe("b'waiting'")
  await sandbox.rollback(checkpoint, { strict: true })
  expect(await ask(sandbox, python, 'b.recv(100)')).toBe("b'waiting'")
})

test('message queues stay as they are; a handle of a process that was made again says that it has ended', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const python = await startPython(
    sandbox,
    `import os, select, time
child = os.fork()
if child == 0: time.sleep(1000)
handle = os.pidfd_open(child)`,
  )
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.warnings.map(({ kind }) => kind)).toEqual(['pidfd'])
  expect((await sandbox.commands.run('ipcmk -Q')).exitCode).toBe(0)
  await sandbox.rollback(checkpoint)
  expect((await sandbox.commands.run('ipcs -q | grep -c ^0x')).stdout).toBe('1\n')
  const hasEnded = 'select.select([handle], [], [], 0)[0] != []'
  expect(await ask(sandbox, python, hasEnded)).toBe('False')
  await sandbox.commands.run(`kill -9 ${await ask(sandbox, python, 'child')}`)
  await sandbox.rollback(checkpoint)
  expect(await ask(sandbox, python, hasEnded)).toBe('True')
})

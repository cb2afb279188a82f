// Sockets of unix by their paths, beyond what the guests `sockets_paths` and `sockets_datagrams` show.
import { expect, test } from 'vitest'
import { Sandbox, type CommandHandle } from '../../src/index.js'
import { startPython } from '../support/python.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()

const SERVER = `
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("/workspace/door")
listener.listen(5)
print("up", flush=True)
for line in sys.stdin:
    connection, _ = listener.accept()
    connection.sendall(b"served")
    connection.close()
    print("served", flush=True)
`
const CLIENT = `
import socket
client = socket.socket(socket.AF_UNIX)
client.connect("/workspace/door")
print("connected", flush=True)
print(client.recv(100).decode(), flush=True)
`

const start = async (sandbox: Sandbox, program: string, sign: string): Promise<CommandHandle> => {
  const command = await sandbox.commands.run(['python3', '-c', program], { background: true, stdin: true })
  await until(sign, () => command.stdout.includes(sign))
  return command
}

test('what waits to be accepted is served after a checkpoint, which says that the path is dead; the next one says so, too', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const server = await start(sandbox, SERVER, 'up')
  const client = await start(sandbox, CLIENT, 'connected')
  const reasons = async () => (await sandbox.checkpoint()).warnings.map(({ reason }) => reason.split(': ').at(-1))
  expect(await reasons()).toEqual([
    'connections wait to be accepted, which are not captured',
    'no process of the sandbox holds its other end',
  ])
  await server.sendStdin('\n')
  await until('it is served', () => client.stdout.includes('served'))
  expect(await reasons()).toEqual(['it stays as it is while it stays open'])
})

test('a listener does not make its volume one that changed', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await start(sandbox, SERVER, 'up')
  const first = await sandbox.checkpoint({ strict: true })
  expect(first.changedVolumes).toBe(1)
  expect((await sandbox.checkpoint()).changedVolumes).toBe(0)
  await sandbox.files.write('new', 'x')
  await sandbox.rollback(first)
  expect((await sandbox.checkpoint()).changedVolumes).toBe(0)
  // A look at it, as a change of the server's own, is none of ours.
  await sandbox.commands.run('chmod 600 /workspace/door')
  expect((await sandbox.checkpoint()).changedVolumes).toBe(1)
})

test('a file that took the place of a dead listener comes and goes with the volume', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const server = await start(sandbox, SERVER, 'up')
  const before = await sandbox.checkpoint({ strict: true })
  await sandbox.commands.run('rm /workspace/door; echo mine > /workspace/door; kill $(pgrep -f door)')
  await until('it has ended', () => !server.isRunning)
  const now = await sandbox.checkpoint()
  // Its file came back with the volume.
  expect((await sandbox.rollback(before)).notRestored).toEqual([])
  expect((await sandbox.commands.run('stat -c %F /workspace/door')).stdout).toBe('socket\n')
  await sandbox.rollback(now)
  expect(await sandbox.files.read('door')).toBe('mine\n')
})

const DATAGRAMS = `
import os, socket
def bind(name):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind('/workspace/' + name)
    return made
def stranger():
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
held, other = bind('held'), bind('other')
def call():
    stranger().sendto(b'called', '/workspace/held')
`

test.each([
  ['a sender with an address', "other.sendto(b'x', '/workspace/held')", "b'x'"],
  ['an empty one', "stranger().sendto(b'', '/workspace/held')", "b''"],
  [
    'two that are connected to each other',
    "held.connect('/workspace/other'); other.connect('/workspace/held'); other.send(b'x')",
    "b'x'",
  ],
  [
    'something waits in one that is connected to it',
    "call(); other.sendto(b'x', '/workspace/other'); other.connect('/workspace/held')",
    "b'called'",
  ],
])('a datagram socket that can not be bound again stays as it is, which is reported: %s', async (_, line, waits) => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const python = await startPython(sandbox, DATAGRAMS)
  expect(await python.run(line)).toBe('')
  const { warnings } = await sandbox.checkpoint()
  expect(warnings).toContainEqual(expect.objectContaining({ pid: python.command.pid, kind: 'socket' }))
  expect(await python.run('call()')).toMatch(/^ConnectionRefusedError/)
  expect(await python.run('print(held.recv(10))')).toBe(waits)
})

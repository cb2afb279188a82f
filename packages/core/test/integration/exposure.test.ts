// What of the host can be seen from inside: nothing that is not shown on purpose. Run as root and as an ordinary user.
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { homedir, networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Sandbox, type NetworkOption } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const program = readFileSync(new URL('../exposure/look.py', import.meta.url), 'utf8')
const marker = `only-the-host-${process.pid}`
const closed = `/opt/deltabox-closed-${process.pid}`
const SHM_KEY = 0x64620000 + (process.pid % 0xffff)

let servers: Server[] = []
let secrets: string[] = []
let neighbour: ChildProcess | undefined

async function listen(options: object): Promise<Server> {
  const server = createServer((socket) => socket.destroy())
  servers.push(server)
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(options, resolve))
  return server
}

/** Another program of the user: with the word in its environment, its arguments and a shared memory segment. */
const NEIGHBOUR = `
import ctypes, sys
libc = ctypes.CDLL(None)
segment = libc.shmget(${SHM_KEY}, 4096, 0o1666)
libc.syscall(248, b"user", sys.argv[1].encode(), b"secret", 6, ctypes.c_int(-3))
print("up", flush=True)
sys.stdin.read()
libc.shmctl(segment, 0, None)
`

beforeEach(async () => {
  process.env['DELTABOX_TEST_MARKER'] = marker
  await listen({ path: `\0${marker}` })
  neighbour = spawn('python3', ['-c', NEIGHBOUR, marker], { stdio: ['pipe', 'pipe', 'inherit'] })
  let output = ''
  neighbour.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  await until('the neighbour is up', () => output.includes('up'))
  // Of a directory that is shown: only its mode protects it.
  if (process.getuid?.() === 0) {
    writeFileSync(closed, marker, { mode: 0o640 })
    secrets.push(closed)
  }
  // Readable by everybody, so that only its being out of sight protects it.
  for (const dir of [homedir(), '/tmp', '/var/tmp', join(state.workspace, '..')]) {
    const secret = join(dir, `${marker}-secret`)
    mkdirSync(dir, { recursive: true })
    writeFileSync(secret, marker, { mode: 0o644 })
    secrets.push(secret)
  }
})

afterEach(async () => {
  delete process.env['DELTABOX_TEST_MARKER']
  for (const server of servers) server.close()
  for (const secret of secrets) rmSync(secret, { force: true })
  servers = []
  secrets = []
  const ended = new Promise((resolve) => neighbour?.once('exit', resolve))
  neighbour?.stdin?.end()
  await ended
})

test.each<[string, NetworkOption]>([
  ['none', 'none'],
  ['allow', { allow: ['*', 'registry.example'] }],
])('nothing of the host is found, with network %s', async (_, network) => {
  const everywhere = await listen({ host: '::', port: 0 })
  const port = (everywhere.address() as AddressInfo).port
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  await using sandbox = await Sandbox.create({ workspace: state.workspace, network })
  await sandbox.files.write('/tmp/look.py', program)
  const { enginePid } = await sandbox.getInfo()
  const plan = {
    marker,
    hostPids: [process.pid, neighbour?.pid, enginePid].filter((pid) => pid !== undefined && pid > 1000),
    shmKey: SHM_KEY,
    ports: [port],
    // A link-local address needs its interface, which is not there.
    addresses: addresses.filter(({ address }) => !address.startsWith('fe80')).map(({ address }) => address),
    proxy: network !== 'none',
  }
  const { stdout, stderr, exitCode } = await sandbox.commands.run(['python3', '/tmp/look.py', JSON.stringify(plan)], {
    timeoutMs: 50_000,
  })
  expect(exitCode, stderr).toBe(0)
  const found = JSON.parse(stdout) as Record<string, unknown[]>
  expect(Object.keys(found).length).toBe(10)
  expect(Object.fromEntries(Object.entries(found).filter(([, findings]) => findings.length > 0))).toEqual({})
})

test('the looking finds what there is: the network of the host is not hidden', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace, network: 'host' })
  await sandbox.files.write('/tmp/look.py', program)
  const plan = { marker, hostPids: [], shmKey: SHM_KEY, ports: [], addresses: [], proxy: false }
  const { stdout, stderr } = await sandbox.commands.run(['python3', '/tmp/look.py', JSON.stringify(plan)])
  expect(stderr).toBe('')
  const found = JSON.parse(stdout) as Record<string, string[]>
  expect(found['sockets of the host']).toContain('abstract')
  expect(found['interfaces of the host']?.length).toBeGreaterThan(0)
})

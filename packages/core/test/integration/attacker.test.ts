// A hostile program inside tries to get out, as root and as an ordinary user of the sandbox: everything must fail.
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { homedir, networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { useTestState } from '../support/state.js'

const ATTACK_MS = 50_000
const INSIDE_UID = 1000

const state = useTestState()
const attack = readFileSync(new URL('../attacker/attack.py', import.meta.url), 'utf8')
const marker = `host-only-${process.pid}`

let servers: Server[] = []
let connections = 0
let secrets: string[] = []
let plan: Record<string, unknown> = {}

function listen(options: object): Promise<Server> {
  const server = createServer((socket) => {
    connections += 1
    socket.destroy()
  })
  servers.push(server)
  return new Promise((resolve, reject) => server.once('error', reject).listen(options, () => resolve(server)))
}

const portOf = (server: Server) => {
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

beforeEach(async () => {
  process.env['DELTABOX_TEST_MARKER'] = marker
  servers = []
  secrets = []
  connections = 0
  const tcp = await listen({ host: '0.0.0.0', port: 0 })
  await listen({ path: `\0${marker}` })
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list?.map(({ address }) => address) ?? [])
  const systemVolumes = process.getuid?.() === 0 ? ['/usr/', '/opt/', '/etc/', '/lib', '/bin', '/sbin'] : []
  plan = { marker, ports: [portOf(tcp)], addresses, abstractSocket: marker, systemVolumes }
})

afterEach(() => {
  delete process.env['DELTABOX_TEST_MARKER']
  for (const server of servers) server.close()
  for (const secret of secrets) rmSync(secret, { force: true })
})

/** A sandbox that has been through a checkpoint and a rollback, so that overlays were parked and released. */
async function createUsed(): Promise<Sandbox> {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  for (const dir of [homedir(), state.stateDir, join(state.stateDir, '..')]) {
    const secret = join(dir, `${marker}-secret`)
    writeFileSync(secret, 'secret', { mode: 0o600 })
    secrets.push(secret)
  }
  await sandbox.files.write('/tmp/attack.py', attack, { mode: 0o644 })
  const checkpoint = await sandbox.checkpoint()
  await sandbox.files.write('/workspace/later', 'x')
  await sandbox.rollback(checkpoint)
  return sandbox
}

async function runAttack(sandbox: Sandbox, uid: number | null): Promise<Record<string, string>> {
  const { enginePid } = await sandbox.getInfo()
  const secretPaths = [...secrets, join(state.stateDir, 'sandboxes', sandbox.id, 'engine.sock')]
  const { stdout, stderr, exitCode } = await sandbox.commands.run(
    ['python3', '/tmp/attack.py', JSON.stringify({ ...plan, enginePid, secretPaths, uid })],
    { timeoutMs: ATTACK_MS },
  )
  expect(exitCode, stderr).toBe(0)
  return JSON.parse(stdout) as Record<string, string>
}

async function expectAllRefused(uid: number | null): Promise<void> {
  await using sandbox = await createUsed()
  const outcomes = await runAttack(sandbox, uid)
  expect(Object.entries(outcomes).filter(([, outcome]) => !outcome.startsWith('refused: '))).toEqual([])
  expect(Object.keys(outcomes).length).toBeGreaterThanOrEqual(17)
  expect(connections).toBe(0)
  // The sandbox is as good as before.
  const checkpoint = await sandbox.checkpoint()
  await sandbox.rollback(checkpoint)
  expect(await sandbox.commands.run('cat README.md')).toMatchObject({ stdout: '# a project\n', exitCode: 0 })
}

test('as root of the sandbox', () => expectAllRefused(null))

test('as an ordinary user of the sandbox', async () => {
  if (process.getuid?.() === 0) return expectAllRefused(INSIDE_UID)
  // Started by an ordinary user, a sandbox has one id and so no other user.
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const become = 'import os\ntry: os.setuid(1)\nexcept OSError as error: print(error.errno)'
  expect((await sandbox.commands.run(['python3', '-c', become])).stdout).toBe('22\n')
})

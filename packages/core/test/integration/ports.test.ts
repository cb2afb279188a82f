// Servers inside a sandbox, reached from the host.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()

async function startServer(sandbox: Sandbox, port: number, address = '127.0.0.1') {
  const server = await sandbox.commands.run(['python3', '-u', '-m', 'http.server', String(port), '--bind', address], {
    background: true,
  })
  await until('the server listens', () => server.stdout.includes('Serving'))
  return server
}

test.each(['none', 'host'] as const)('a server inside is reached from the host, with network %s', async (network) => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace, network })
  const port = network === 'host' ? 38_471 : 3000
  await using forward = await sandbox.ports.forward(port)
  // Nothing listens yet. Not by fetch: that of Node 20 misses a connection that closes at once, and waits for ever.
  const early = connect(forward.port, '127.0.0.1')
  early.on('error', () => undefined)
  await new Promise((resolve) => early.once('close', resolve))
  await expect(sandbox.ports.connect(port)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await startServer(sandbox, port)
  expect(forward.port).toBeGreaterThan(0)
  expect(await (await fetch(`${forward.url}/README.md`)).text()).toBe('# a project\n')
  const many = await Promise.all(Array.from({ length: 4 }, () => fetch(`${forward.url}/src/main.txt`)))
  expect(await Promise.all(many.map((answer) => answer.text()))).toEqual(Array(4).fill('original\n'))
})

test('a server on IPv6 alone, and one in node, are reached too', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await startServer(sandbox, 3001, '::1')
  await using six = await sandbox.ports.forward(3001)
  expect(await (await fetch(`${six.url}/README.md`)).text()).toBe('# a project\n')
  const program = 'require("http").createServer((q, a) => q.pipe(a)).listen(3002, () => console.log("up"))'
  const server = await sandbox.commands.run(['node', '-e', program], { background: true })
  await until('the server listens', () => server.stdout.includes('up'))
  await using forward = await sandbox.ports.forward(3002)
  const body = 'x'.repeat(2_000_000)
  expect(await (await fetch(forward.url, { method: 'POST', body })).text()).toBe(body)
})

test('a forward goes on after a rollback, to the server as it was', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await startServer(sandbox, 3000)
  await using forward = await sandbox.ports.forward(3000)
  const checkpoint = await sandbox.checkpoint()
  await sandbox.files.write('/workspace/README.md', 'changed\n')
  expect(await (await fetch(`${forward.url}/README.md`)).text()).toBe('changed\n')
  await sandbox.rollback(checkpoint)
  expect(await (await fetch(`${forward.url}/README.md`)).text()).toBe('# a project\n')
})

test('closing: by hand, twice, by a signal, by the end of the sandbox; and what is refused', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  await startServer(sandbox, 3000)
  const first = await sandbox.ports.forward(3000)
  await expect(sandbox.ports.forward(3000, { hostPort: first.port })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
  await expect(sandbox.ports.forward(0)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(sandbox.ports.forward(70_000)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await first.close()
  await first.close()
  await expect(fetch(first.url)).rejects.toThrow()
  const abort = new AbortController()
  const second = await sandbox.ports.forward(3000, { signal: abort.signal, hostPort: first.port })
  expect(second.port).toBe(first.port)
  abort.abort()
  await second.closed
  const third = await sandbox.ports.forward(3000)
  const socket = (await sandbox.ports.connect(3000)).on('error', () => undefined)
  await sandbox.kill()
  await third.closed
  socket.destroy()
})

test('deltabox forward prints the address and serves until it is interrupted', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await startServer(sandbox, 3000)
  const cli = spawn(process.execPath, [
    fileURLToPath(new URL('../../bin/deltabox.js', import.meta.url)),
    ...['forward', sandbox.id, '3000'],
  ])
  let output = ''
  cli.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  await until('the address is printed', () => output.endsWith('\n'))
  expect(await (await fetch(`${output.trim()}/README.md`)).text()).toBe('# a project\n')
  cli.kill('SIGINT')
  expect(await once(cli, 'exit')).toEqual([0, null])
})

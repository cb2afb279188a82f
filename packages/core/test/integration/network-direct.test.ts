// Programs that know of no proxy reach the hosts that `network: { allow }` names with their port. The host outside is this
// machine by its own name; since that is no public address, its address is allowed as well.
import { execFileSync } from 'node:child_process'
import { lookup } from 'node:dns/promises'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { useHostServers } from '../support/host-servers.js'
import { makeImage } from '../support/image.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const host = useHostServers()
const name = hostname().toLowerCase()
let address = ''

beforeAll(async () => {
  ;({ address } = await lookup(name, { family: 4 }))
})

const create = (...allow: string[]) =>
  Sandbox.create({ workspace: state.workspace, network: { allow: [...allow, address] } })

async function outputOf(sandbox: Sandbox, command: string | string[]): Promise<string> {
  const { stdout, stderr, exitCode } = await sandbox.commands.run(command, { timeoutMs: 60_000 })
  return exitCode === 0 ? stdout : `exit ${exitCode}: ${stdout}${stderr}`
}

test('curl without a proxy, a plain Python socket and fetch of Node.js reach it; bytes pass both ways', async () => {
  const [web, echo] = [await host.http(), await host.echo()]
  await using sandbox = await create(`${name}:${web}`, `${name}:${echo}`)
  expect(await outputOf(sandbox, `curl -sS --noproxy '*' -d body http://${name}:${web}/x?y=1`)).toBe('POST /x?y=1 body')
  const fetching = `fetch('http://${name}:${web}/f').then(a => a.text()).then(t => console.log(t))`
  expect(await outputOf(sandbox, ['env', '-u', 'NODE_USE_ENV_PROXY', 'node', '-e', fetching])).toBe('GET /f \n')
  const program = `
import os, socket, threading
data = os.urandom(3_000_000)
s = socket.create_connection(("${name}", ${echo}))
def send():
    s.sendall(data); s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = b""
while chunk := s.recv(65536): got += chunk
print(got == data)
`
  await sandbox.files.write('/tmp/echo.py', program)
  expect(await outputOf(sandbox, 'python3 /tmp/echo.py')).toBe('True\n')
  // Programs that use the proxy still do.
  expect(await outputOf(sandbox, `curl -sS http://${name}:${web}/proxied`)).toBe('GET /proxied ')
})

test('TLS is end to end: the certificate that the program sees is that of the host', async () => {
  const [key, cert] = [join(state.workspace, 'key.pem'), join(state.workspace, 'cert.pem')]
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${name}`]
  execFileSync('openssl', [...request, '-addext', `subjectAltName=DNS:${name}`, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  })
  const port = await host.https({ key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') })
  await using sandbox = await create(`${name}:${port}`)
  const url = `https://${name}:${port}/tls`
  expect(await outputOf(sandbox, `curl -sS --noproxy '*' --cacert cert.pem ${url}`)).toBe('GET /tls ')
  expect(await outputOf(sandbox, `curl -sS --noproxy '*' ${url}`)).toMatch(/^exit (60|35)/)
  const fetching = `fetch('${url}').then(a => a.text()).then(t => console.log(t))`
  const node = ['env', '-u', 'NODE_USE_ENV_PROXY', 'NODE_EXTRA_CA_CERTS=cert.pem', 'node', '-e', fetching]
  expect(await outputOf(sandbox, node)).toBe('GET /tls \n')
})

test('a host without a port has 80 and 443; what is not named, or leads to where it may not, is not reached', async () => {
  const [allowed, other] = [await host.http(), await host.http()]
  await using sandbox = await create(`${name}:${allowed}`, 'plain.example', '*.wild.example', 'localhost:8080')
  const hosts = await sandbox.files.read('/etc/hosts')
  expect(hosts).toMatch(new RegExp(`^127\\.64\\.0\\.1 ${name}$`, 'm'))
  expect(hosts).toMatch(/^127\.64\.0\.2 plain\.example$/m)
  expect(hosts).not.toMatch(/wild|^127\.64.* localhost/m)
  const listening = await outputOf(sandbox, 'cat /proc/net/tcp')
  // Address and port in hexadecimal, the address as a little-endian number.
  expect(listening).toContain(' 0200407F:0050 ')
  expect(listening).toContain(' 0200407F:01BB ')
  // The price: at these ports a server inside has one address to itself, but not all of them.
  const serve = (at: string) =>
    `python3 -c 'import socket; socket.create_server(("${at}", 443)); print("serves")' 2>&1 | tail -n 1`
  expect(await outputOf(sandbox, serve('127.0.0.1'))).toBe('serves\n')
  expect(await outputOf(sandbox, serve('0.0.0.0'))).toContain('Address already in use')
  // The other port has no listener, and the wildcard's name no address.
  expect(await outputOf(sandbox, `curl -sS --noproxy '*' http://${name}:${other}/`)).toMatch(/^exit 7/)
  expect(await outputOf(sandbox, `curl -sS --noproxy '*' http://x.wild.example/`)).toMatch(/^exit 6/)
  // A name that does not resolve outside, and one whose address is the host's own and not allowed: a reset.
  expect(await outputOf(sandbox, `curl -sS --noproxy '*' http://plain.example/`)).toMatch(/^exit (56|52)/)
  await using strict = await Sandbox.create({
    workspace: state.workspace,
    network: { allow: [`${name}:${allowed}`] },
  })
  expect(await outputOf(strict, `curl -sS --noproxy '*' http://${name}:${allowed}/`)).toMatch(/^exit (56|52)/)
})

test('a rollback closes such connections and says so', async () => {
  const port = await host.echo()
  await using sandbox = await create(`${name}:${port}`)
  const program = `
import socket
s = socket.create_connection(("${name}", ${port}))
s.sendall(b"hello")
print(s.recv(100).decode(), flush=True)
try:
    print("end", s.recv(100), flush=True)
except ConnectionResetError:
    print("reset", flush=True)
input()
`
  await sandbox.files.write('/tmp/client.py', program)
  const client = await sandbox.commands.run('exec python3 /tmp/client.py', { background: true })
  await until('the client is connected', () => client.stdout.includes('hello'))
  const checkpoint = await sandbox.checkpoint()
  const { notRestored } = await sandbox.rollback(checkpoint)
  expect(notRestored).toContainEqual(expect.objectContaining({ pid: 0, kind: 'connection' }))
  await until('the client sees the end', () => /reset|end/.test(client.stdout))
})

test('the longest list, with hosts of an image', async () => {
  const port = await host.http()
  const many = Array.from({ length: 254 }, (_, index) => `host-${index}.example`)
  const image = join(state.workspace, '..', 'image')
  makeImage(image)
  await using sandbox = await Sandbox.create({
    workspace: state.workspace,
    rootfs: image,
    network: { allow: [...many, `${name}:${port}`, address] },
  })
  expect(await sandbox.files.read('/etc/hosts')).toContain(`127.64.0.255 ${name}\n`)
  const connecting = `exec 3<>/dev/tcp/${name}/${port} && printf 'GET /img HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3`
  expect(await outputOf(sandbox, connecting)).toContain('GET /img')
})

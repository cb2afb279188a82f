// What a sandbox reaches beyond itself, with real programs inside.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { useHostServers } from '../support/host-servers.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const host = useHostServers()

const create = (...allow: string[]) => Sandbox.create({ workspace: state.workspace, network: { allow } })

async function stdoutOf(sandbox: Sandbox, command: string): Promise<string> {
  const { stdout, stderr, exitCode } = await sandbox.commands.run(command, { timeoutMs: 60_000 })
  return exitCode === 0 ? stdout : `exit ${exitCode}: ${stdout}${stderr}`
}

/** Host pids of the proxies whose parent is this engine. */
function proxyPids(enginePid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const [state = '', parent = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8')
          .replace(/^.*\) /s, '')
          .split(' ')
        return Number(parent) === enginePid && state !== 'Z' && isProxy(pid)
      } catch {
        return false
      }
    })
}

function isProxy(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('network/proxy/main.js')
  } catch {
    return false
  }
}

/** The one proxy of an engine, once its launcher has become it. */
async function proxyOf(enginePid: number): Promise<number> {
  let pids: number[] = []
  await until('the proxy runs', () => (pids = proxyPids(enginePid)).length > 0)
  expect(pids).toHaveLength(1)
  return pids[0]!
}

test('an allowed host and port is reached by HTTP, by CONNECT and by SOCKS; others are refused with the reason', async () => {
  const [allowed, other] = [await host.http(), await host.http()]
  await using sandbox = await create(`127.0.0.1:${allowed}`)
  for (const how of ['--noproxy ""', '--noproxy "" --proxytunnel', '--noproxy "" --proxy $ALL_PROXY']) {
    expect(await stdoutOf(sandbox, `curl -sS ${how} -d body http://127.0.0.1:${allowed}/path?x=1`), how).toBe(
      'POST /path?x=1 body',
    )
    expect(await stdoutOf(sandbox, `curl -sS -f ${how} http://127.0.0.1:${other}/`), how).toMatch(/^exit (22|56|97)/)
  }
  expect(await stdoutOf(sandbox, `curl -sS --noproxy "" http://127.0.0.1:${other}/`)).toContain(
    `127.0.0.1:${other} is not in the list of addresses that this sandbox may reach`,
  )
  expect(await stdoutOf(sandbox, 'curl -sS http://elsewhere.example/')).toContain(
    'elsewhere.example:80 is not in the list of hosts that this sandbox may reach',
  )
  // Without the proxy there is no way out, not even to what is allowed.
  expect(await stdoutOf(sandbox, `curl -sS --noproxy "*" http://127.0.0.1:${allowed}/`)).toMatch(/^exit 7/)
  expect((await sandbox.getInfo()).network).toEqual({ allow: [`127.0.0.1:${allowed}`] })
})

test('a name that leads to the host is refused unless it is meant', async () => {
  const port = await host.http()
  await using sandbox = await create(`*:${port}`)
  const request = `curl -sS --noproxy "" http://localhost:${port}/`
  expect(await stdoutOf(sandbox, request)).toContain('which is no public address')
  await using meant = await create(`localhost:${port}`)
  expect(await stdoutOf(meant, request)).toBe('GET / ')
})

test('bytes pass unchanged both ways, half-closes included', async () => {
  const port = await host.echo()
  await using sandbox = await create(`127.0.0.1:${port}`)
  const program = `
import hashlib, os, socket, struct, threading
data = os.urandom(3_000_000)
for way in ("connect", "socks"):
    s = socket.create_connection(("127.0.0.1", 3128))
    if way == "connect":
        s.sendall(b"CONNECT 127.0.0.1:${port} HTTP/1.1\\r\\n\\r\\n")
        head = b""
        while not head.endswith(b"\\r\\n\\r\\n"): head += s.recv(1)
        assert head.startswith(b"HTTP/1.1 200 "), head
    else:
        # All at once: the data follows the request before it is answered.
        s.sendall(b"\\x05\\x01\\x00" + b"\\x05\\x01\\x00\\x01" + socket.inet_aton("127.0.0.1") + struct.pack(">H", ${port}))
        head = b""
        while len(head) < 12: head += s.recv(12 - len(head))
        assert head[:4] == b"\\x05\\x00\\x05\\x00", head
    def send():
        s.sendall(data); s.shutdown(socket.SHUT_WR)
    threading.Thread(target=send).start()
    got = b""
    while chunk := s.recv(65536): got += chunk
    print(way, got == data)
`
  await sandbox.files.write('/tmp/echo.py', program)
  expect(await stdoutOf(sandbox, 'python3 /tmp/echo.py')).toBe('connect True\nsocks True\n')
})

test('nonsense to the proxy harms nobody', async () => {
  const port = await host.http()
  await using sandbox = await create(`127.0.0.1:${port}`)
  const program = `
import os, random, socket
random.seed(7)
for start in (b"", b"\\x05", b"\\x05\\xff", b"CONNECT ", b"GET http://", b"CONNECT 127.0.0.1:${port} HTTP/1.1\\r\\n\\r\\n"):
    for size in (1, 40, 3000, 100_000):
        s = socket.create_connection(("127.0.0.1", 3128), timeout=5)
        try:
            s.sendall(start + random.randbytes(size)); s.shutdown(socket.SHUT_WR); s.recv(100)
        except OSError: pass
        s.close()
`
  await sandbox.files.write('/tmp/fuzz.py', program)
  expect(await stdoutOf(sandbox, 'python3 /tmp/fuzz.py')).toBe('')
  expect(await stdoutOf(sandbox, `curl -sS --noproxy "" http://127.0.0.1:${port}/after`)).toBe('GET /after ')
  expect((await sandbox.getInfo()).warnings).toEqual([])
})

test('npm install from the configured registry works when it is allowed, and says what is missing when it is not', async () => {
  const registry = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' }).trim()
  const { hostname, port } = new URL(registry)
  const packageJson = JSON.stringify({ name: 'x', version: '1.0.0', dependencies: { 'is-number': '7.0.0' } })
  writeFileSync(join(state.workspace, 'package.json'), packageJson)
  const install = { envs: { npm_config_registry: registry, npm_config_fetch_retries: '0' }, timeoutMs: 60_000 }
  await using allowed = await create(`${hostname}:${port === '' ? '443' : port}`)
  expect(await allowed.commands.run('npm install', install)).toMatchObject({ exitCode: 0 })
  expect(await stdoutOf(allowed, 'node -p "require(\'is-number\')(5)"')).toBe('true\n')
  await using refused = await create('elsewhere.example:443')
  const { exitCode, stderr } = await refused.commands.run('npm install', install)
  expect(exitCode).not.toBe(0)
  expect(stderr).toContain(`${hostname}:443 is not in the list of hosts that this sandbox may reach`)
})

test('a rollback closes the connections to outside and says so', async () => {
  const port = await host.echo()
  await using sandbox = await create(`127.0.0.1:${port}`)
  const program = `
import socket
s = socket.create_connection(("127.0.0.1", 3128))
s.sendall(b"CONNECT 127.0.0.1:${port} HTTP/1.1\\r\\n\\r\\n")
print(s.recv(100).decode().split()[1], flush=True)
try:
    print("end", s.recv(100), flush=True)
except ConnectionResetError:
    print("reset", flush=True)
input()
`
  await sandbox.files.write('/tmp/client.py', program)
  const client = await sandbox.commands.run('exec python3 /tmp/client.py', { background: true })
  await until('the client is connected', () => client.stdout.includes('200'))
  const checkpoint = await sandbox.checkpoint()
  const { notRestored } = await sandbox.rollback(checkpoint)
  expect(notRestored).toContainEqual({
    pid: 0,
    kind: 'connection',
    reason: '1 connections to outside through the proxy were closed',
  })
  await until('the client sees the end', () => /reset|end/.test(client.stdout))
  // New connections work.
  const text = await stdoutOf(
    sandbox,
    `curl -sS -o /dev/null -w '%{http_connect}' -p --noproxy "" -m 5 http://127.0.0.1:${port}`,
  )
  expect(text).toMatch(/200/)
})

test.each(['kill', 'SIGKILL'] as const)('the proxy ends with its engine: %s', async (how) => {
  const sandbox = await create('registry.example')
  const { enginePid } = await sandbox.getInfo()
  const proxy = await proxyOf(enginePid)
  if (how === 'kill') await sandbox.kill()
  else process.kill(enginePid, 'SIGKILL')
  await until('the proxy is gone', () => !isProxy(proxy))
})

test('a proxy that died is told', async () => {
  await using sandbox = await create('registry.example')
  const { enginePid } = await sandbox.getInfo()
  const proxy = await proxyOf(enginePid)
  process.kill(proxy, 'SIGKILL')
  await until('the engine knows', async () => (await sandbox.getInfo()).warnings.length === 1)
  expect((await sandbox.getInfo()).warnings[0]).toContain('proxy of this sandbox has ended')
})

test('the proxy runs without root and has none of the client’s environment', async () => {
  await using sandbox = await create('registry.example')
  const { enginePid } = await sandbox.getInfo()
  const pid = await proxyOf(enginePid)
  const uid = () => /^Uid:\s+(\d+)\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.slice(1)
  await until('it gave up its user id', () => !uid()?.includes('0'))
  expect(/^CapEff:\s+(\S+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]).toBe('0000000000000000')
  // Only root may look at a process that gave up its ids.
  if (process.getuid?.() === 0) expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).toBe('')
})

test('host: the network of the host, its names and its loopback', async () => {
  const port = await host.http()
  await using sandbox = await Sandbox.create({ workspace: state.workspace, network: 'host' })
  expect(await stdoutOf(sandbox, `curl -sS http://127.0.0.1:${port}/x`)).toBe('GET /x ')
  expect(await stdoutOf(sandbox, 'cat /etc/resolv.conf')).toBe(readFileSync('/etc/resolv.conf', 'utf8'))
  expect(await stdoutOf(sandbox, 'cat /etc/hosts')).toContain(readFileSync('/etc/hosts', 'utf8'))
  const written = await stdoutOf(sandbox, 'echo x >> /etc/resolv.conf')
  // The host's own, or a copy of it.
  expect(written).toMatch(process.getuid?.() === 0 ? /^$|^exit/ : /^exit/)
  expect(readFileSync('/etc/resolv.conf', 'utf8')).not.toMatch(/^x$/m)
  expect((await sandbox.getInfo()).network).toBe('host')
  const checkpoint = await sandbox.checkpoint()
  await sandbox.commands.run('echo changed > README.md')
  await sandbox.rollback(checkpoint)
  expect(await stdoutOf(sandbox, 'cat README.md')).toBe('# a project\n')
})

test('certificate files that the client was told of are shown inside', async () => {
  const file = join(state.workspace, '..', 'authority.pem')
  writeFileSync(file, 'an authority\n')
  process.env['SSL_CERT_FILE'] = file
  try {
    for (const network of ['host', { allow: ['registry.example'] }] as const) {
      await using sandbox = await Sandbox.create({ workspace: state.workspace, network })
      expect(await stdoutOf(sandbox, 'cat "$SSL_CERT_FILE"')).toBe('an authority\n')
      expect(await stdoutOf(sandbox, 'echo x >> "$SSL_CERT_FILE"')).toMatch(/^exit/)
    }
  } finally {
    delete process.env['SSL_CERT_FILE']
  }
})

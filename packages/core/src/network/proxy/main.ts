// The proxy of one sandbox: a process of its own on the host's network, whose listening socket lies in the sandbox's
// network namespace. The engine's launcher starts it (packages/native, sandbox/proxy_launcher.cc); argv: a ProxyConfig.
import { createServer, type Socket } from 'node:net'
import { directHosts } from '../direct.js'
import { parseRule } from '../rules.js'
import { FIRST_DIRECT_FD, LISTENER_FD, type ProxyConfig } from './config.js'
import { Control } from './control.js'
import { createDial } from './dial.js'
import { serveDirect } from './direct.js'
import { createHttpProxy } from './http.js'
import { serveSocks, SOCKS_VERSION } from './socks.js'

/** Connections from inside, over all listeners; npm opens about 15 per process. More are closed. */
const MAX_CONNECTIONS = 512
/** Refused destinations that go to the engine's log, each once. */
const MAX_LOGGED_REFUSALS = 100
const FIRST_BYTE_TIMEOUT_MS = 60_000

const config = JSON.parse(process.argv[2] ?? '{}') as ProxyConfig
if (config.dropToId !== undefined) {
  process.setgroups?.([])
  process.setgid?.(config.dropToId)
  process.setuid?.(config.dropToId)
}

const rules = config.allow.map(parseRule).filter((rule) => rule !== undefined)
const inner = new Set<Socket>()
const outer = new Set<Socket>()
const control = new Control(() => {
  for (const socket of [...outer, ...inner]) socket.resetAndDestroy()
})

const logged = new Set<string>()
const plainDial = createDial(rules, (destination) => {
  if (logged.has(destination) || logged.size >= MAX_LOGGED_REFUSALS) return
  logged.add(destination)
  process.stderr.write(`network: refused ${JSON.stringify(destination)}\n`)
})
const dial: typeof plainDial = async (host, port) => {
  const socket = await plainDial(host, port)
  outer.add(socket)
  control.setOpen(outer.size)
  socket.once('close', () => {
    outer.delete(socket)
    control.setOpen(outer.size)
  })
  return socket
}

const http = createHttpProxy(dial)

// False for one too many, which is closed.
function admit(socket: Socket): boolean {
  if (inner.size >= MAX_CONNECTIONS) {
    socket.resetAndDestroy()
    return false
  }
  inner.add(socket)
  socket.once('close', () => inner.delete(socket))
  socket.setNoDelay(true)
  return true
}

// The first byte tells the protocol: SOCKS begins with its version, which no HTTP method begins with.
function welcome(socket: Socket): void {
  if (!admit(socket)) return
  const onError = (): void => void socket.destroy()
  const onTimeout = (): void => void socket.destroy()
  socket.on('error', onError)
  socket.setTimeout(FIRST_BYTE_TIMEOUT_MS, onTimeout)
  socket.once('data', (chunk: Buffer) => {
    socket.pause()
    socket.setTimeout(0, onTimeout)
    socket.removeListener('timeout', onTimeout)
    socket.unshift(chunk)
    if (chunk[0] === SOCKS_VERSION) {
      void serveSocks(socket, dial)
    } else {
      http.emit('connection', socket)
      socket.resume()
    }
  })
}

createServer({ allowHalfOpen: true }, welcome).listen({ fd: LISTENER_FD })

let fd = FIRST_DIRECT_FD
for (const { name, ports } of directHosts(config.allow)) {
  for (const port of ports) {
    // Nothing is read before the host outside has answered.
    createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      if (admit(socket)) void serveDirect(socket, { name, port }, dial)
    }).listen({ fd: fd++ })
  }
}

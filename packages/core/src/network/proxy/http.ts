import { createServer, request, type IncomingHttpHeaders, type IncomingMessage, type Server } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { splitPort } from '../rules.js'
import { DialError, type Dial } from './dial.js'
import { tunnel } from './tunnel.js'

const HEADERS_TIMEOUT_MS = 30_000
const HTTP_PORT = 80
const MAX_REASON_LENGTH = 300

/** Headers that concern one connection only (RFC 9110, 7.6.1), and those meant for a proxy. */
const HOP_BY_HOP = new Set([
  ...['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade'],
  ...['proxy-connection', 'proxy-authorization', 'proxy-authenticate'],
])

/** The HTTP side of the proxy: CONNECT, and requests with an absolute http URL. */
export function createHttpProxy(dial: Dial): Server {
  const server = createServer((incoming, answer) => void forward(incoming, answer, dial))
  server.headersTimeout = HEADERS_TIMEOUT_MS
  // An upload may take as long as it takes.
  server.requestTimeout = 0
  server.on('connect', (incoming, socket, head) => void connectThrough(incoming, socket as Socket, head, dial))
  server.on('clientError', (_, socket) => socket.destroy())
  return server
}

async function connectThrough(incoming: IncomingMessage, inner: Socket, head: Buffer, dial: Dial): Promise<void> {
  inner.on('error', () => inner.destroy())
  const target = splitPort(incoming.url ?? '')
  if (target === undefined || target.port === null) return refuse(inner, 400, 'CONNECT needs host:port')
  try {
    const outer = await dial(target.host, target.port)
    if (inner.destroyed) {
      outer.destroy()
      return
    }
    inner.write('HTTP/1.1 200 Connection Established\r\n\r\n')
    if (head.length > 0) outer.write(head)
    tunnel(inner, outer)
  } catch (error) {
    refuse(inner, statusOf(error), messageOf(error))
  }
}

// The reason is in the status line too: many programs show only that.
function refuse(socket: Socket, status: number, message: string): void {
  const body = `deltabox: ${message}\n`
  const reason = message.replace(/[^ -~]/g, '?').slice(0, MAX_REASON_LENGTH)
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}

async function forward(incoming: IncomingMessage, answer: ServerResponse, dial: Dial): Promise<void> {
  const fail = (status: number, message: string): void => {
    if (answer.headersSent) answer.destroy()
    else answer.writeHead(status, { 'content-type': 'text/plain', connection: 'close' }).end(`deltabox: ${message}\n`)
  }
  const url = URL.canParse(incoming.url ?? '') ? new URL(incoming.url ?? '') : undefined
  if (url?.protocol !== 'http:') return fail(400, 'a proxy needs an absolute http URL, or CONNECT')
  try {
    const port = url.port === '' ? HTTP_PORT : Number(url.port)
    const outer = await dial(url.hostname.replace(/^\[|\]$/g, ''), port)
    if (answer.destroyed) {
      outer.destroy()
      return
    }
    const outgoing = request({
      createConnection: () => outer,
      method: incoming.method,
      path: `${url.pathname}${url.search}`,
      headers: { ...endToEnd(incoming.headers), host: url.host, connection: 'close' },
    })
    outgoing.on('response', (response) => {
      answer.writeHead(response.statusCode ?? 502, response.statusMessage, endToEnd(response.headers))
      response.on('error', () => answer.destroy())
      response.pipe(answer)
    })
    outgoing.on('error', (error) => fail(502, error.message))
    answer.once('close', () => outgoing.destroy())
    incoming.pipe(outgoing)
  } catch (error) {
    fail(statusOf(error), messageOf(error))
  }
}

function endToEnd(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const named = new Set((headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase()))
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.has(name) && !named.has(name)))
}

function statusOf(error: unknown): number {
  return error instanceof DialError && error.reason === 'refused-by-rules' ? 403 : 502
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

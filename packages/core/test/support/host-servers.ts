import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Server as HttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach } from 'vitest'

/** Servers on the host's loopback, closed after each test. */
export interface HostServers {
  /** Answers `METHOD PATH BODY` to each request; returns the port. */
  http(): Promise<number>
  /** As `http`, with TLS. */
  https(identity: { readonly key: string; readonly cert: string }): Promise<number>
  /** Sends back what it gets; returns the port. */
  echo(): Promise<number>
}

function answerRequest(request: IncomingMessage, answer: ServerResponse): void {
  let body = ''
  request.setEncoding('utf8')
  request.on('data', (text: string) => (body += text))
  request.on('end', () => answer.end(`${request.method} ${request.url} ${body}`))
}

export function useHostServers(): HostServers {
  let servers: (Server | HttpServer)[] = []
  const sockets = new Set<Socket>()
  const listen = async (server: Server | HttpServer): Promise<number> => {
    servers.push(server)
    server.on('connection', (socket: Socket) => sockets.add(socket))
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
    return (server.address() as AddressInfo).port
  }
  afterEach(() => {
    for (const server of servers) server.close()
    for (const socket of sockets) socket.destroy()
    servers = []
    sockets.clear()
  })
  return {
    http: () => listen(createHttpServer(answerRequest)),
    https: (identity) => listen(createHttpsServer(identity, answerRequest)),
    echo: () =>
      listen(createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => undefined).pipe(socket))),
  }
}

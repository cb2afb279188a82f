import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach } from 'vitest'

/** Servers on the host's loopback, closed after each test. */
export interface HostServers {
  /** Answers `METHOD PATH BODY` to each request; returns the port. */
  http(): Promise<number>
  /** Sends back what it gets; returns the port. */
  echo(): Promise<number>
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
    http: () =>
      listen(
        createHttpServer((request, answer) => {
          let body = ''
          request.setEncoding('utf8')
          request.on('data', (text: string) => (body += text))
          request.on('end', () => answer.end(`${request.method} ${request.url} ${body}`))
        }),
      ),
    echo: () =>
      listen(createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => undefined).pipe(socket))),
  }
}

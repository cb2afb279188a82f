import { closeSync } from 'node:fs'
import { createServer, isIPv6, Socket, type Server } from 'node:net'
import { z } from 'zod'
import { fromSystemError } from '../errors/convert.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { validate } from '../errors/validate.js'
import type { EngineClient, Reply } from '../protocol/engine-client.js'

const MAX_PORT = 65_535
/** Connections of one forward at a time; beyond it new ones are closed at once. */
const MAX_CONNECTIONS = 512

const portSchema = z.int().min(1).max(MAX_PORT)
const forwardOptionsSchema = z.strictObject({
  hostPort: z.int().min(0).max(MAX_PORT).default(0),
  host: z.string().min(1).default('127.0.0.1'),
  signal: z.instanceof(AbortSignal).optional(),
})

/** How to forward a port. */
export interface ForwardOptions {
  /** Port on the host; 0: any free one. @default 0 */
  readonly hostPort?: number
  /** Address on the host to listen on; whoever reaches it reaches the server inside. @default "127.0.0.1" */
  readonly host?: string
  /** Closes the forward. */
  readonly signal?: AbortSignal
}

/** A port of the host that leads to one inside. */
export interface PortForward extends AsyncDisposable {
  /** On the host. */
  readonly port: number
  /** `http://host:port`, for servers that speak HTTP. */
  readonly url: string
  /** Resolves when it is closed: by `close()`, or by the end of the connection to the engine. */
  readonly closed: Promise<void>
  /** Closes the port and all its connections. Idempotent. */
  close(): Promise<void>
}

/** Ports of servers inside a sandbox. */
export class Ports {
  readonly #client: EngineClient

  /** @internal */
  constructor(client: EngineClient) {
    this.#client = client
  }

  /**
   * Listens on the host and passes each connection to a server on localhost inside; with `network: 'none'` too. The
   * server may start later: a connection that finds none is reset. The forward lives in this process, until `close()`,
   * and ends when the connection to the engine does.
   * @throws INVALID_ARGUMENT; ALREADY_EXISTS (the host's port is taken); PERMISSION_DENIED
   */
  async forward(port: number, options: ForwardOptions = {}): Promise<PortForward> {
    const insidePort = validate(portSchema, port, 'port')
    const { hostPort, host, signal } = validate(forwardOptionsSchema, options, 'options')
    const connections = new Set<Socket>()
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (outer) => {
      track(outer, connections)
      this.#connect(insidePort).then(
        (inner) => {
          track(inner, connections)
          join(outer, inner)
        },
        () => outer.resetAndDestroy(),
      )
    })
    server.maxConnections = MAX_CONNECTIONS
    await listen(server, hostPort, host)
    const address = server.address()
    const boundPort = typeof address === 'object' && address !== null ? address.port : hostPort
    const closed = new Promise<void>((resolve) => server.once('close', resolve))
    const close = async (): Promise<void> => {
      server.close()
      for (const socket of connections) socket.destroy()
      await closed
    }
    signal?.addEventListener('abort', () => void close(), { once: true })
    if (signal?.aborted === true) await close()
    void this.#client.closed.then(close)
    const url = `http://${isIPv6(host) ? `[${host}]` : host}:${boundPort}`
    return { port: boundPort, url, closed, close, [Symbol.asyncDispose]: close }
  }

  /**
   * One connection to a server inside.
   * @throws NOT_FOUND (nothing listens there)
   */
  async connect(port: number): Promise<Socket> {
    return this.#connect(validate(portSchema, port, 'port'))
  }

  #connect(port: number): Promise<Socket> {
    return this.#client.request(
      { case: 'connectPort', value: { port } },
      { expect: 'portConnected', accept: takeSocket, onLate: (late) => late.destroy() },
    )
  }
}

function takeSocket({ fds }: Reply<'portConnected'>): Socket {
  const [fd] = fds
  if (fds.length === 1 && fd !== undefined)
    return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true })
  for (const one of fds) closeSync(one)
  throw new DeltaboxError('PROTOCOL', {
    message: `the engine sent ${fds.length} descriptors for a connection`,
    nextStep: 'use an engine and a client of the same version: rebuild with `npm run build`',
  })
}

function track(socket: Socket, connections: Set<Socket>): void {
  connections.add(socket)
  socket.once('close', () => connections.delete(socket))
}

/** Passes bytes both ways, half-closes included; a failure of one side ends the other. */
function join(outer: Socket, inner: Socket): void {
  for (const [from, to] of [
    [outer, inner],
    [inner, outer],
  ] as const) {
    from.setNoDelay(true)
    from.on('error', () => to.destroy())
    from.once('close', () => to.destroySoon())
    from.pipe(to)
  }
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, host, () => {
        server.removeListener('error', reject)
        resolve()
      })
    })
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
      throw new DeltaboxError('ALREADY_EXISTS', {
        message: `port ${port} of ${host} is taken`,
        nextStep: 'choose another hostPort, or leave it out for any free one',
        cause: error,
      })
    }
    throw fromSystemError(error, `listening on ${host}:${port}`)
  }
}

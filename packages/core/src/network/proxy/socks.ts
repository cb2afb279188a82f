import type { Socket } from 'node:net'
import { DialError, type Dial } from './dial.js'
import { tunnel } from './tunnel.js'

// RFC 1928. No authentication, CONNECT only.
export const SOCKS_VERSION = 5
const NO_AUTHENTICATION = 0
const CONNECT = 1
const IPV4 = 1
const NAME = 3
const IPV6 = 4
const Reply = { granted: 0, notAllowed: 2, unreachable: 4, refused: 5, badCommand: 7, badAddress: 8 } as const

const HANDSHAKE_TIMEOUT_MS = 30_000
/** The longest request: a name of 255 bytes. */
const MAX_HANDSHAKE_BYTES = 2 + 255 + 4 + 1 + 255 + 2

/** Serves one SOCKS5 client. */
export async function serveSocks(inner: Socket, dial: Dial): Promise<void> {
  inner.on('error', () => inner.destroy())
  const timer = setTimeout(() => inner.destroy(), HANDSHAKE_TIMEOUT_MS)
  const reader = new HandshakeReader(inner)
  const answer = (code: number): boolean => inner.write(Buffer.from([SOCKS_VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]))
  try {
    const [, methodCount = 0] = await reader.take(2)
    const methods = await reader.take(methodCount)
    if (!methods.includes(NO_AUTHENTICATION)) return void inner.end(Buffer.from([SOCKS_VERSION, 0xff]))
    inner.write(Buffer.from([SOCKS_VERSION, NO_AUTHENTICATION]))
    const [version, command, , type] = await reader.take(4)
    if (version !== SOCKS_VERSION || command !== CONNECT) return (void answer(Reply.badCommand), inner.destroySoon())
    const host = await readHost(reader, type)
    if (host === undefined) return (void answer(Reply.badAddress), inner.destroySoon())
    const port = (await reader.take(2)).readUInt16BE()
    reader.release()
    const outer = await dial(host, port)
    if (inner.destroyed) return void outer.destroy()
    answer(Reply.granted)
    tunnel(inner, outer)
  } catch (error) {
    if (error instanceof DialError) answer(replyFor(error))
    inner.destroySoon()
  } finally {
    clearTimeout(timer)
  }
}

function replyFor(error: DialError): number {
  if (error.reason === 'refused-by-rules') return Reply.notAllowed
  return error.reason === 'not-resolved' ? Reply.unreachable : Reply.refused
}

async function readHost(reader: HandshakeReader, type: number | undefined): Promise<string | undefined> {
  if (type === IPV4) return [...(await reader.take(4))].join('.')
  if (type === NAME) {
    const [length = 0] = await reader.take(1)
    return (await reader.take(length)).toString('latin1')
  }
  if (type !== IPV6) return undefined
  const groups = (await reader.take(16)).toString('hex').match(/.{4}/g) ?? []
  return groups.join(':')
}

/** Hands out exact numbers of bytes; what comes after the handshake stays in the socket. */
class HandshakeReader {
  readonly #socket: Socket
  #buffered = Buffer.alloc(0)

  constructor(socket: Socket) {
    this.#socket = socket
  }

  async take(count: number): Promise<Buffer> {
    while (this.#buffered.length < count) {
      const chunk = await this.#nextChunk()
      this.#buffered = Buffer.concat([this.#buffered, chunk])
      // A client may send what follows the handshake before it is answered, but not without a bound.
      if (this.#buffered.length > MAX_HANDSHAKE_BYTES + 65_536) throw new Error('too much before the handshake ended')
    }
    const taken = this.#buffered.subarray(0, count)
    this.#buffered = this.#buffered.subarray(count)
    return taken
  }

  release(): void {
    if (this.#buffered.length > 0) this.#socket.unshift(this.#buffered)
  }

  #nextChunk(): Promise<Buffer> {
    const ready = this.#socket.read() as Buffer | null
    if (ready !== null) return Promise.resolve(ready)
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        this.#socket.removeListener('readable', onReadable)
        this.#socket.removeListener('end', onEnd)
        this.#socket.removeListener('close', onEnd)
      }
      const onReadable = (): void => {
        const chunk = this.#socket.read() as Buffer | null
        if (chunk === null) return
        stop()
        resolve(chunk)
      }
      const onEnd = (): void => {
        stop()
        reject(new Error('the client left'))
      }
      this.#socket.on('readable', onReadable)
      this.#socket.once('end', onEnd)
      this.#socket.once('close', onEnd)
    })
  }
}

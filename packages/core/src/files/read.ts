import { closeSync, createReadStream, fstatSync, read } from 'node:fs'
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { promisify } from 'node:util'
import { throwIfAborted } from '../errors/abort.js'
import { fromSystemError } from '../errors/convert.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import type { EngineClient } from '../protocol/engine-client.js'

const readAsync = promisify(read)

// Node's own bound of one buffer read; larger files are beyond what belongs in memory.
const MAX_FILE_BYTES = 1 << 30
const READ_CHUNK_BYTES = 4 << 20
const STREAM_CHUNK_BYTES = 256 << 10

/** A descriptor of the file, which the caller closes. */
async function open(client: EngineClient, path: Buffer, signal: AbortSignal | undefined): Promise<number> {
  return client.request(
    { case: 'readFile', value: { path } },
    { expect: 'readFile', accept: ({ fds }) => onlyDescriptor(fds), signal, onLate: closeSync },
  )
}

/** The contents of a file, in memory. */
export async function readWhole(client: EngineClient, path: Buffer, signal: AbortSignal | undefined): Promise<Buffer> {
  const fd = await open(client, path, signal)
  try {
    return await readAll(fd, path.toString(), signal)
  } finally {
    closeSync(fd)
  }
}

/** The contents of a file as they are asked for; the descriptor is closed at the end, or when the reader cancels. */
export async function readStream(
  client: EngineClient,
  path: Buffer,
  signal: AbortSignal | undefined,
): Promise<ReadableStream<Uint8Array>> {
  const fd = await open(client, path, signal)
  const stream = createReadStream('', {
    fd,
    start: 0,
    highWaterMark: STREAM_CHUNK_BYTES,
    ...(signal === undefined ? {} : { signal }),
  })
  return Readable.toWeb(stream) as ReadableStream<Uint8Array>
}

function onlyDescriptor(fds: readonly number[]): number {
  const [fd, ...others] = fds
  for (const other of others) closeSync(other)
  if (fd !== undefined && others.length === 0) return fd
  if (fd !== undefined) closeSync(fd)
  throw new DeltaboxError('PROTOCOL', {
    message: `the engine sent ${fds.length} descriptors for a file`,
    nextStep: 'use an engine and a client of the same version: rebuild with `npm run build`',
  })
}

/** Reads by position to the end of the file, which may grow meanwhile. */
async function readAll(fd: number, path: string, signal: AbortSignal | undefined): Promise<Buffer> {
  const chunks: Buffer[] = []
  let position = 0
  try {
    const expectedBytes = fstatSync(fd).size
    while (position <= MAX_FILE_BYTES) {
      throwIfAborted(signal, `reading ${path}`)
      const chunkBytes = Math.min(READ_CHUNK_BYTES, Math.max(4096, expectedBytes - position + 1))
      const { bytesRead, buffer } = await readAsync(fd, Buffer.allocUnsafe(chunkBytes), 0, chunkBytes, position)
      if (bytesRead === 0) return Buffer.concat(chunks)
      chunks.push(buffer.subarray(0, bytesRead))
      position += bytesRead
    }
  } catch (error) {
    throw fromSystemError(error, `reading ${path}`)
  }
  throw new DeltaboxError('TOO_LARGE', {
    message: `${path} is larger than ${MAX_FILE_BYTES} bytes`,
    nextStep: 'read it with format: "stream"',
  })
}

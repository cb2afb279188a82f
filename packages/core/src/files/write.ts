import { closeSync } from 'node:fs'
import { throwIfAborted } from '../errors/abort.js'
import { fromSystemError } from '../errors/convert.js'
import type { EngineClient, RequestOptions } from '../protocol/engine-client.js'
import type { FileContents, WriteFileOptions } from './options.js'

/** What one request carries; the engine takes at most 64 MiB, and others wait while it does. */
const PIECE_BYTES = 16 << 20

/** Writes a file, whole or not at all. */
export async function writeWhole(
  client: EngineClient,
  path: Buffer,
  contents: FileContents,
  { mode = 0, makeParents = true, signal }: WriteFileOptions,
): Promise<void> {
  const what = `writing ${path.toString()}`
  throwIfAborted(signal, what)
  const pieces = toPieces(contents)
  const first = await pieces.next()
  const second = first.done === true ? first : await pieces.next()
  if (first.done === true || second.done === true) {
    const data = first.done === true ? Buffer.alloc(0) : first.value
    await sendPiece(client, data, what, (fds) =>
      client.request({ case: 'writeFile', value: { path, mode, makeParents } }, { ...empty, fds, signal }),
    )
    return
  }
  const writeId = await client.request(
    { case: 'beginWrite', value: { path, makeParents } },
    { expect: 'beginWrite', accept: ({ value }) => value.writeId, signal },
  )
  const append = (data: Buffer) =>
    sendPiece(client, data, what, (fds) =>
      client.request({ case: 'appendWrite', value: { writeId } }, { ...empty, fds, signal }),
    )
  try {
    await append(first.value)
    await append(second.value)
    for await (const data of pieces) await append(data)
    await client.request({ case: 'finishWrite', value: { writeId, mode } }, { ...empty, signal })
  } catch (error) {
    await client.request({ case: 'finishWrite', value: { writeId, discard: true } }, empty).catch(() => undefined)
    throw error
  } finally {
    await pieces.return()
  }
}

const empty = { expect: 'empty', accept: () => undefined } as const satisfies RequestOptions<'empty', undefined>

async function sendPiece(
  client: EngineClient,
  data: Uint8Array,
  what: string,
  send: (fds: readonly number[]) => Promise<undefined>,
): Promise<void> {
  let memfd: number
  try {
    memfd = client.createMemfd(data)
  } catch (error) {
    throw fromSystemError(error, what)
  }
  try {
    await send([memfd])
  } finally {
    closeSync(memfd)
  }
}

/** The contents in pieces of about PIECE_BYTES; none when they are empty. */
async function* toPieces(contents: FileContents): AsyncGenerator<Buffer, void> {
  if (typeof contents === 'string' || contents instanceof Uint8Array) {
    const bytes = Buffer.from(contents as string)
    for (let start = 0; start < bytes.length; start += PIECE_BYTES) yield bytes.subarray(start, start + PIECE_BYTES)
    return
  }
  let waiting: Buffer[] = []
  let waitingBytes = 0
  for await (const chunk of contents) {
    const bytes = Buffer.from(chunk as string)
    for (let start = 0; start < bytes.length; start += PIECE_BYTES) {
      const part = bytes.subarray(start, start + PIECE_BYTES)
      waiting.push(part)
      waitingBytes += part.length
      if (waitingBytes < PIECE_BYTES) continue
      yield Buffer.concat(waiting)
      waiting = []
      waitingBytes = 0
    }
  }
  if (waitingBytes > 0) yield Buffer.concat(waiting)
}

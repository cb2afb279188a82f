import { closeSync, fstatSync, read } from 'node:fs'
import { promisify } from 'node:util'
import { z } from 'zod'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { throwIfAborted } from '../errors/abort.js'
import { fromSystemError } from '../errors/convert.js'
import { validate } from '../errors/validate.js'
import type { EngineClient } from '../protocol/engine-client.js'

const readAsync = promisify(read)

// Node's own bound of one buffer read; larger files are beyond what belongs in memory.
const MAX_FILE_BYTES = 1 << 30
const READ_CHUNK_BYTES = 4 << 20

const pathSchema = z
  .string()
  .min(1)
  .max(4095, 'longer than PATH_MAX')
  .refine((path) => !path.includes('\0'), 'contains a NUL byte')

/** Options of {@link Files.read}. */
export interface ReadFileOptions {
  /** "text" decodes UTF-8 (invalid bytes become U+FFFD); "bytes" gives them as they are. @default "text" */
  readonly format?: 'text' | 'bytes'
  readonly signal?: AbortSignal
}

/** Options of {@link Files.write}. */
export interface WriteFileOptions {
  /** Permission bits of a new file. @default 0o644 */
  readonly mode?: number
  /** Make missing parent directories. @default true */
  readonly makeParents?: boolean
  readonly signal?: AbortSignal
}

/** The files of a sandbox. Relative paths start at the workspace's mount. */
export class Files {
  readonly #client: EngineClient
  readonly #workspaceMount: string

  /** @internal */
  constructor(client: EngineClient, workspaceMount: string) {
    this.#client = client
    this.#workspaceMount = workspaceMount
  }

  /**
   * The contents of a regular file.
   * @throws NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (not a regular file), TOO_LARGE (above 1 GiB), ABORTED
   */
  read(path: string, options: ReadFileOptions & { readonly format: 'bytes' }): Promise<Uint8Array>
  read(path: string, options?: ReadFileOptions & { readonly format?: 'text' }): Promise<string>
  async read(path: string, options: ReadFileOptions = {}): Promise<string | Uint8Array> {
    const { signal } = options
    const absolutePath = this.#resolve(path)
    const fd = await this.#client.request(
      { case: 'readFile', value: { path: Buffer.from(absolutePath) } },
      { expect: 'readFile', accept: ({ fds }) => onlyDescriptor(fds), signal, onLate: closeSync },
    )
    try {
      const bytes = await readAll(fd, absolutePath, signal)
      return options.format === 'bytes' ? bytes : bytes.toString('utf8')
    } finally {
      closeSync(fd)
    }
  }

  /**
   * Writes a file: whole or not at all.
   * @throws NOT_FOUND (parent, with `makeParents: false`), PERMISSION_DENIED, NO_SPACE, ABORTED
   */
  async write(path: string, contents: string | Uint8Array, options: WriteFileOptions = {}): Promise<void> {
    const { mode = 0o644, makeParents = true, signal } = options
    const absolutePath = this.#resolve(path)
    throwIfAborted(signal, `writing ${path}`)
    const data = typeof contents === 'string' ? Buffer.from(contents, 'utf8') : contents
    let memfd: number
    try {
      memfd = this.#client.createMemfd(data)
    } catch (error) {
      throw fromSystemError(error, `writing ${path}`)
    }
    try {
      await this.#client.request(
        { case: 'writeFile', value: { path: Buffer.from(absolutePath), mode, makeParents } },
        { expect: 'empty', accept: () => undefined, fds: [memfd], signal },
      )
    } finally {
      closeSync(memfd)
    }
  }

  #resolve(path: string): string {
    const checked = validate(pathSchema, path, 'path')
    return checked.startsWith('/') ? checked : `${this.#workspaceMount}/${checked}`
  }
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
    nextStep: 'read it in parts with a command, for example `head -c`',
  })
}

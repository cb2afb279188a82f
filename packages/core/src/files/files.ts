import type { ReadableStream } from 'node:stream/web'
import { z } from 'zod'
import { isDeltaboxError } from '../errors/deltabox-error.js'
import { throwIfAborted } from '../errors/abort.js'
import { validate } from '../errors/validate.js'
import type { EngineClient } from '../protocol/engine-client.js'
import { toEntryInfo, type EntryInfo } from './entry-info.js'
import {
  changeOptionsSchema,
  fileContentsSchema,
  listOptionsSchema,
  lookOptionsSchema,
  makeDirOptionsSchema,
  readOptionsSchema,
  watchOptionsSchema,
  writeOptionsSchema,
  type ChangeOptions,
  type FileContents,
  type ListOptions,
  type LookOptions,
  type MakeDirOptions,
  type ReadFileOptions,
  type WatchOptions,
  type WriteFileOptions,
} from './options.js'
import { joinPath, resolvePath, type InsidePath } from './paths.js'
import { readStream, readWhole } from './read.js'
import { WatchHandle, type WatchEvent } from './watch.js'
import { writeWhole } from './write.js'

const onEventSchema = z.custom<(event: WatchEvent) => void>((value) => typeof value === 'function', 'is no function')

/**
 * The files of a sandbox. Paths are absolute, or relative to the workspace's mount; text, or bytes for names that are no
 * UTF-8. They are resolved inside: no link leads out of the sandbox.
 */
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
   * @throws NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (not a regular file), TOO_LARGE (above 1 GiB, unless it is a
   * stream), ABORTED
   */
  read(path: InsidePath, options: ReadFileOptions & { readonly format: 'bytes' }): Promise<Uint8Array>
  read(path: InsidePath, options: ReadFileOptions & { readonly format: 'stream' }): Promise<ReadableStream<Uint8Array>>
  read(path: InsidePath, options?: ReadFileOptions & { readonly format?: 'text' }): Promise<string>
  async read(
    path: InsidePath,
    options: ReadFileOptions = {},
  ): Promise<string | Uint8Array | ReadableStream<Uint8Array>> {
    const { format = 'text', signal } = validate(readOptionsSchema, options, 'options')
    const absolutePath = this.#resolve(path)
    if (format === 'stream') return readStream(this.#client, absolutePath, signal)
    const bytes = await readWhole(this.#client, absolutePath, signal)
    return format === 'bytes' ? bytes : bytes.toString('utf8')
  }

  /**
   * Writes a file: whole or not at all. Large contents, and an async iterable (a stream), go over in pieces; other calls,
   * checkpoints included, may come between them, and find the file not there yet.
   * @throws NOT_FOUND (parent, with `makeParents: false`), PERMISSION_DENIED, NO_SPACE, ABORTED, STALE_GENERATION (a
   * rollback came between two pieces); what the iterable throws
   */
  async write(path: InsidePath, contents: FileContents, options: WriteFileOptions = {}): Promise<void> {
    const checked = validate(writeOptionsSchema, options, 'options')
    const data = validate(fileContentsSchema, contents, 'contents')
    const { mode, makeParents, signal } = checked
    await writeWhole(this.#client, this.#resolve(path), data, {
      ...(mode === undefined ? {} : { mode }),
      ...(makeParents === undefined ? {} : { makeParents }),
      ...(signal === undefined ? {} : { signal }),
    })
  }

  /**
   * Writes several files, one after another; each is whole or not there, but not all of them together.
   * @throws as {@link write}, at the first that fails
   */
  async writeFiles(
    files: readonly { readonly path: InsidePath; readonly data: FileContents }[],
    options: WriteFileOptions = {},
  ): Promise<void> {
    for (const { path, data } of files) await this.write(path, data, options)
  }

  /**
   * The entries of a directory, in the order of their names' bytes; with `depth`, those of a directory after it.
   * @throws NOT_FOUND, NOT_A_DIRECTORY, PERMISSION_DENIED
   */
  async list(path: InsidePath, options: ListOptions = {}): Promise<EntryInfo[]> {
    const { depth, signal } = validate(listOptionsSchema, options, 'options')
    const entries: EntryInfo[] = []
    await this.#listInto(entries, this.#resolve(path), depth, signal)
    return entries
  }

  /** What a path names; of a link, the link. @throws NOT_FOUND, NOT_A_DIRECTORY (a part of the path) */
  async getInfo(path: InsidePath, options: LookOptions = {}): Promise<EntryInfo> {
    const { signal } = validate(lookOptionsSchema, options, 'options')
    const absolutePath = this.#resolve(path)
    return this.#client.request(
      { case: 'fileInfo', value: { path: absolutePath } },
      { expect: 'fileInfo', accept: ({ value }) => toEntryInfo(value, absolutePath), signal },
    )
  }

  /** Whether a path names something; a link that leads nowhere does. */
  async exists(path: InsidePath, options: LookOptions = {}): Promise<boolean> {
    try {
      await this.getInfo(path, options)
      return true
    } catch (error) {
      if (isDeltaboxError(error, 'NOT_FOUND') || isDeltaboxError(error, 'NOT_A_DIRECTORY')) return false
      throw error
    }
  }

  /**
   * Makes a directory, and what is missing above it.
   * @returns false when it was there already.
   * @throws ALREADY_EXISTS (something else is there), PERMISSION_DENIED, NO_SPACE
   */
  async makeDir(path: InsidePath, options: MakeDirOptions = {}): Promise<boolean> {
    const { mode, idempotencyKey, signal } = validate(makeDirOptionsSchema, options, 'options')
    return this.#client.request(
      { case: 'makeDir', value: { path: this.#resolve(path), mode } },
      { expect: 'makeDir', accept: ({ value }) => value.created, idempotencyKey, signal },
    )
  }

  /**
   * Renames a file, directory or link. A file that has the new name is replaced. A directory of the project or of a
   * checkpoint takes as long as copying its files, once.
   * @throws NOT_FOUND; ALREADY_EXISTS (a directory that is not empty); UNSUPPORTED (across volumes); INVALID_ARGUMENT
   * (into itself, or a volume)
   */
  async rename(from: InsidePath, to: InsidePath, options: ChangeOptions = {}): Promise<void> {
    const { idempotencyKey, signal } = validate(changeOptionsSchema, options, 'options')
    await this.#client.request(
      { case: 'rename', value: { from: this.#resolve(from), to: this.#resolve(to) } },
      { expect: 'empty', accept: () => undefined, idempotencyKey, signal },
    )
  }

  /**
   * Removes a file or link, or a directory with all that is in it. Large directories go in parts, between which other
   * calls have their turn.
   * @throws NOT_FOUND; PERMISSION_DENIED; INVALID_ARGUMENT (a volume); BUSY (moved meanwhile); ABORTED (part is gone)
   */
  async remove(path: InsidePath, options: LookOptions = {}): Promise<void> {
    const { signal } = validate(lookOptionsSchema, options, 'options')
    const request = { case: 'remove', value: { path: this.#resolve(path) } } as const
    let done = false
    while (!done) {
      done = await this.#client.request(request, { expect: 'remove', accept: ({ value }) => value.done, signal })
    }
  }

  /**
   * Watches a directory. The watch goes on through checkpoints without losing an event; a rollback is one event,
   * "rolledBack", since it may change anything. It keeps no process alive.
   * @throws NOT_FOUND, NOT_A_DIRECTORY, TOO_LARGE (1,024 watches and 8,192 directories in all)
   */
  async watchDir(
    path: InsidePath,
    onEvent: (event: WatchEvent) => void,
    options: WatchOptions = {},
  ): Promise<WatchHandle> {
    const { recursive, onEnd, signal } = validate(watchOptionsSchema, options, 'options')
    const callbacks = { onEvent: validate(onEventSchema, onEvent, 'onEvent'), onEnd }
    return this.#client.request(
      { case: 'watch', value: { path: this.#resolve(path), recursive } },
      {
        expect: 'watch',
        accept: ({ value }) => new WatchHandle(this.#client, value.watchId, callbacks),
        signal,
        onLate: (late) => void late.stop().catch(() => undefined),
      },
    )
  }

  async #listInto(
    entries: EntryInfo[],
    directory: Buffer,
    depth: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let after: Uint8Array = Buffer.alloc(0)
    for (let more = true; more;) {
      throwIfAborted(signal, 'list')
      const page = await this.#client.request(
        { case: 'listDir', value: { path: directory, after } },
        { expect: 'dirEntries', accept: ({ value }) => value, signal },
      )
      for (const entry of page.entries) {
        const path = joinPath(directory, entry.name)
        const info = toEntryInfo(entry, path)
        entries.push(info)
        if (depth > 1 && info.type === 'dir') await this.#listBelow(entries, path, depth - 1, signal)
      }
      after = page.entries.at(-1)?.name ?? after
      more = page.more
    }
  }

  /** A directory below may be gone since its name was read. */
  async #listBelow(
    entries: EntryInfo[],
    directory: Buffer,
    depth: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    try {
      await this.#listInto(entries, directory, depth, signal)
    } catch (error) {
      if (!isDeltaboxError(error, 'NOT_FOUND') && !isDeltaboxError(error, 'NOT_A_DIRECTORY')) throw error
    }
  }

  #resolve(path: InsidePath): Buffer {
    return resolvePath(path, this.#workspaceMount)
  }
}

import { z } from 'zod'
import { idempotencyKeySchema } from '../commands/options.js'

const signalSchema = z.instanceof(AbortSignal).optional()
const modeSchema = z.int().min(0).max(0o7777)
const isAsyncIterable = (value: unknown): value is AsyncIterable<string | Uint8Array> =>
  typeof value === 'object' && value !== null && Symbol.asyncIterator in value

/** What a file is written from. */
export type FileContents = string | Uint8Array | AsyncIterable<string | Uint8Array>

export const fileContentsSchema = z.union(
  [z.string(), z.instanceof(Uint8Array), z.custom<AsyncIterable<string | Uint8Array>>(isAsyncIterable)],
  'must be text, bytes, or an async iterable of them',
)

/** Calls that do nothing but look. */
export const lookOptionsSchema = z.strictObject({ signal: signalSchema })

export const readOptionsSchema = z.strictObject({
  format: z.enum(['text', 'bytes', 'stream']).optional(),
  signal: signalSchema,
})

export const writeOptionsSchema = z.strictObject({
  mode: modeSchema.optional(),
  makeParents: z.boolean().optional(),
  signal: signalSchema,
})

export const listOptionsSchema = z.strictObject({
  depth: z.int().min(1).max(1000).default(1),
  signal: signalSchema,
})

export const makeDirOptionsSchema = z.strictObject({
  mode: modeSchema.default(0o755),
  idempotencyKey: idempotencyKeySchema.optional(),
  signal: signalSchema,
})

export const changeOptionsSchema = z.strictObject({
  idempotencyKey: idempotencyKeySchema.optional(),
  signal: signalSchema,
})

export const watchOptionsSchema = z.strictObject({
  recursive: z.boolean().default(false),
  onEnd: z.custom<(reason: Error | undefined) => void>((value) => typeof value === 'function').optional(),
  signal: signalSchema,
})

/** Options of calls that do nothing but look. */
export interface LookOptions {
  readonly signal?: AbortSignal
}

/** Options of {@link Files.read}. */
export interface ReadFileOptions extends LookOptions {
  /**
   * "text" decodes UTF-8 (invalid bytes become U+FFFD); "bytes" gives them as they are; "stream" reads as you do, for
   * files of any size. @default "text"
   */
  readonly format?: 'text' | 'bytes' | 'stream'
}

/** Options of {@link Files.write}. */
export interface WriteFileOptions extends LookOptions {
  /** Permission bits. @default those of the file that is replaced, 0o644 for a new one */
  readonly mode?: number
  /** Make missing parent directories. @default true */
  readonly makeParents?: boolean
}

/** Options of {@link Files.list}. */
export interface ListOptions extends LookOptions {
  /** How many levels of directories; links are never followed. @default 1 */
  readonly depth?: number
}

/** Options of calls that change something. */
export interface ChangeOptions extends LookOptions {
  /** A second call with the same key is answered with the answer of the first; of the last 256 such calls. */
  readonly idempotencyKey?: string
}

/** Options of {@link Files.makeDir}. */
export interface MakeDirOptions extends ChangeOptions {
  /** Permission bits. @default 0o755 */
  readonly mode?: number
}

/** Options of {@link Files.watchDir}. */
export interface WatchOptions extends LookOptions {
  /** Watch the directories below too, those that come later included; links are not followed. @default false */
  readonly recursive?: boolean
  /** Called once when the watch has ended: without a reason after `stop()`, else with an error. */
  readonly onEnd?: (reason: Error | undefined) => void
}

import { z } from 'zod'
import type { CommandLimit } from '../limits/options.js'

/** setTimeout's largest delay; longer ones would fire at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

const noNul = (text: string) => !text.includes('\0')
const argumentSchema = z.string().refine(noNul, 'contains a NUL byte')

/** A shell line, or an argument vector that no shell sees. */
export const commandSchema = z.union(
  [argumentSchema.min(1, 'is empty'), z.array(argumentSchema).min(1, 'is empty')],
  'must be a string for bash or a non-empty array of arguments, without NUL bytes',
)

const callback = <Fn extends (...args: never[]) => void>() => z.custom<Fn>((value) => typeof value === 'function')

/** Takes output as it is. A promise holds further output back until it is settled. */
export type ByteSink = (bytes: Uint8Array) => void | Promise<void>

/** What a foreground command reads. */
export type StdinSource = string | Uint8Array | AsyncIterable<string | Uint8Array>

const isAsyncIterable = (value: unknown): value is AsyncIterable<string | Uint8Array> =>
  typeof value === 'object' && value !== null && Symbol.asyncIterator in value

/** A user inside: a name, or a uid as a number or its digits. */
export const userSchema = z.union(
  [z.string().regex(/^[^:\0\n/]{1,100}$/), z.int().min(0).max(4294967294)],
  'must be the name or the uid of a user of the sandbox',
)

/** A key of a changing call. */
export const idempotencyKeySchema = z
  .string()
  .min(1, 'is empty')
  .refine((key) => Buffer.byteLength(key) <= 128, 'is longer than 128 bytes')

/** What a command that has been started is called by. */
export interface StartedCommand {
  /** For `commands.kill`. */
  readonly commandId: number
  /** Inside the sandbox. */
  readonly pid: number
}

/** Options of every command. */
const commonShape = {
  cwd: z.string().startsWith('/', 'must be an absolute path inside the sandbox').refine(noNul).optional(),
  envs: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is not a variable name'), argumentSchema).optional(),
  maxOutputBytes: z
    .int()
    .min(0)
    .max(1 << 30)
    .optional(),
  onStdout: callback<(text: string) => void>().optional(),
  onStderr: callback<(text: string) => void>().optional(),
  onStdoutBytes: callback<ByteSink>().optional(),
  onStderrBytes: callback<ByteSink>().optional(),
  user: userSchema.optional(),
  expectedGeneration: z.int().min(1).optional(),
  signal: z.instanceof(AbortSignal).optional(),
}

export const foregroundOptionsSchema = z.strictObject({
  ...commonShape,
  background: z.literal(false).optional(),
  timeoutMs: z.int().min(1).max(MAX_TIMEOUT_MS).optional(),
  stdin: z
    .union(
      [z.string(), z.instanceof(Uint8Array), z.custom<AsyncIterable<string | Uint8Array>>(isAsyncIterable)],
      'must be text, bytes, or an async iterable of them',
    )
    .optional(),
  onStarted: callback<(command: StartedCommand) => void>().optional(),
})

export const backgroundOptionsSchema = z.strictObject({
  ...commonShape,
  background: z.literal(true),
  stdin: z.boolean().optional(),
  label: z.string().max(200).optional(),
  idempotencyKey: idempotencyKeySchema.optional(),
})

/** Options that both kinds of command share. */
export interface CommonRunOptions {
  /** Absolute path inside the sandbox. @default the workspace's mount */
  readonly cwd?: string
  /** Variables added to the default environment. */
  readonly envs?: Readonly<Record<string, string>>
  /** How much of each stream is kept in memory, from its start; callbacks still see all. @default 10 MiB */
  readonly maxOutputBytes?: number
  /** Called with each piece of output; never splits a UTF-8 character. */
  readonly onStdout?: (text: string) => void
  readonly onStderr?: (text: string) => void
  /** As `onStdout`, undecoded. A promise that it returns holds a foreground command's output back until it is settled. */
  readonly onStdoutBytes?: ByteSink
  readonly onStderrBytes?: ByteSink
  /** Name or uid of a user in the sandbox's /etc/passwd; HOME, USER and LOGNAME are set to it. @default root */
  readonly user?: string | number
  /** Refuse the call with STALE_GENERATION when `sandbox.generation` is another by now. @default any */
  readonly expectedGeneration?: number
  /** Foreground: ends the command. Background: ends the attempt to start it. */
  readonly signal?: AbortSignal
}

/** Options of a command that is waited for. */
export interface ForegroundRunOptions extends CommonRunOptions {
  readonly background?: false
  /** Then the command's group is killed and the call throws TIMEOUT. @default none */
  readonly timeoutMs?: number
  /**
   * What the command reads; without it stdin is /dev/null. An async iterable (a stream) is read as the command reads,
   * and left when the command has ended.
   */
  readonly stdin?: StdinSource
  /** Called once it runs, for example to send it signals. */
  readonly onStarted?: (command: StartedCommand) => void
}

/** Options of a command that goes on while the caller does other things. */
export interface BackgroundRunOptions extends CommonRunOptions {
  readonly background: true
  /** Keep stdin open for `sendStdin`; otherwise it is /dev/null. @default true */
  readonly stdin?: boolean
  /** Shown by `commands.list()`. */
  readonly label?: string
  /** A second call with the same key and command returns a handle on the first one's command. */
  readonly idempotencyKey?: string
}

/** How a command ended and what it printed. A non-zero exit code is a result, not an error. */
export interface CommandResult {
  /** null when a signal ended it. */
  readonly exitCode: number | null
  /** For example "SIGKILL"; null when it exited. */
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
  /** Whether `stdout` or `stderr` lacks something that the command printed. */
  readonly truncated: boolean
  readonly timedOut: boolean
  readonly rolledBack: boolean
  /** The limit of the sandbox that it reached, and was ended for if it still ran; null as a rule. */
  readonly limit: CommandLimit | null
}

/** A command as the engine lists it. */
export interface CommandInfo {
  readonly commandId: number
  /** Inside the sandbox. */
  readonly pid: number
  readonly background: boolean
  readonly label: string
  readonly argv: readonly string[]
  readonly running: boolean
  /** null while it runs and when a signal ended it. */
  readonly exitCode: number | null
  readonly signal: string | null
  readonly rolledBack: boolean
  /** As of {@link CommandResult}. */
  readonly limit: CommandLimit | null
  /** Whether it was started on a terminal, by `pty.create`. */
  readonly terminal: boolean
  /** Whom it runs as. */
  readonly user: string
}

/** @default of `maxOutputBytes`. */
export const DEFAULT_MAX_OUTPUT_BYTES = 10 << 20

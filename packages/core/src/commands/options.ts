import { z } from 'zod'

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
  signal: z.instanceof(AbortSignal).optional(),
}

export const foregroundOptionsSchema = z.strictObject({
  ...commonShape,
  background: z.literal(false).optional(),
  timeoutMs: z.int().min(1).max(MAX_TIMEOUT_MS).optional(),
  stdin: z.union([z.string(), z.instanceof(Uint8Array)]).optional(),
})

export const backgroundOptionsSchema = z.strictObject({
  ...commonShape,
  background: z.literal(true),
  stdin: z.boolean().optional(),
  label: z.string().max(200).optional(),
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
  /** Foreground: ends the command. Background: ends the attempt to start it. */
  readonly signal?: AbortSignal
}

/** Options of a command that is waited for. */
export interface ForegroundRunOptions extends CommonRunOptions {
  readonly background?: false
  /** Then the command's group is killed and the call throws TIMEOUT. @default none */
  readonly timeoutMs?: number
  /** What the command reads; without it stdin is /dev/null. */
  readonly stdin?: string | Uint8Array
}

/** Options of a command that goes on while the caller does other things. */
export interface BackgroundRunOptions extends CommonRunOptions {
  readonly background: true
  /** Keep stdin open for `sendStdin`; otherwise it is /dev/null. @default true */
  readonly stdin?: boolean
  /** Shown by `commands.list()`. */
  readonly label?: string
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
}

/** @default of `maxOutputBytes`. */
export const DEFAULT_MAX_OUTPUT_BYTES = 10 << 20

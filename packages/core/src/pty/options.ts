import { z } from 'zod'
import type { CommandLimit } from '../limits/options.js'
import { idempotencyKeySchema, userSchema } from '../commands/options.js'

const noNul = (text: string) => !text.includes('\0')
const argumentSchema = z.string().refine(noNul, 'contains a NUL byte')
const sideSchema = z.int().min(1).max(10_000)

/** Size of a terminal, in characters. */
export const ptySizeSchema = z.strictObject({ cols: sideSchema, rows: sideSchema })

/** Size of a terminal, in characters. */
export interface PtySize {
  readonly cols: number
  readonly rows: number
}

const onData = z.custom<(data: Uint8Array) => void>((value) => typeof value === 'function')

/** Options of {@link Pty.connect}. */
export const ptyConnectOptionsSchema = z.strictObject({
  onData: onData.optional(),
  signal: z.instanceof(AbortSignal).optional(),
})

/** Options of {@link Pty.create}; the one source of their checks. */
export const ptyOptionsSchema = z.strictObject({
  cols: sideSchema.default(80),
  rows: sideSchema.default(24),
  onData: onData.optional(),
  command: z.array(argumentSchema).min(1, 'is empty').optional(),
  cwd: z.string().startsWith('/', 'must be an absolute path inside the sandbox').refine(noNul).optional(),
  envs: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is not a variable name'), argumentSchema).optional(),
  user: userSchema.optional(),
  label: z.string().max(200).optional(),
  idempotencyKey: idempotencyKeySchema.optional(),
  expectedGeneration: z.int().min(1).optional(),
  signal: z.instanceof(AbortSignal).optional(),
})

/** How to connect to a command on a terminal. */
export interface PtyConnectOptions {
  /** Called with each piece of what the terminal shows, as bytes: escape sequences and all. */
  readonly onData?: (data: Uint8Array) => void
  /** Ends the attempt, not the command. */
  readonly signal?: AbortSignal
}

/** How to start a command on a terminal. */
export interface PtyOptions extends Partial<PtySize>, PtyConnectOptions {
  /** @default 80 */
  readonly cols?: number
  /** @default 24 */
  readonly rows?: number
  /** Program and arguments. @default bash */
  readonly command?: readonly string[]
  /** Absolute path inside the sandbox. @default the workspace's mount */
  readonly cwd?: string
  /** Variables added to the default environment. TERM is xterm-256color unless given here. */
  readonly envs?: Readonly<Record<string, string>>
  /** Name or uid of a user in the sandbox's /etc/passwd. @default root */
  readonly user?: string | number
  /** Shown by `commands.list()`. */
  readonly label?: string
  /** A second call with the same key and command returns a handle on the first one's command. */
  readonly idempotencyKey?: string
  /** Refuse the call with STALE_GENERATION when `sandbox.generation` is another by now. @default any */
  readonly expectedGeneration?: number
}

/** How a command on a terminal ended. */
export interface PtyResult {
  /** null when a signal ended it. */
  readonly exitCode: number | null
  /** For example "SIGHUP"; null when it exited. */
  readonly signal: string | null
  /** The limit of the sandbox that it reached, and was ended for if it still ran; null as a rule. */
  readonly limit: CommandLimit | null
}

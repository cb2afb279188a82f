import type { ErrorCode } from './codes.js'

/** What a command had printed, and how it stood, when it was ended by a time-out, an abort or a rollback. */
export interface InterruptedCommandData {
  /** null when the command was ended by a signal or its end was not seen. */
  readonly exitCode: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
  readonly truncated: boolean
  readonly timedOut: boolean
  readonly rolledBack: boolean
}

/** Something in a sandbox that was not captured or not restored. */
export interface Notice {
  /** Pid inside the sandbox; 0 when no process is meant. */
  readonly pid: number
  /** For example "socket", "tty", "thread". */
  readonly kind: string
  readonly reason: string
}

/** What the engine says about a failure of its own. */
export interface EngineFailureData {
  /** The errno's name, for example "ENOSPC"; absent when no system call failed. */
  readonly osError?: string
  /** For example "move_mount". */
  readonly operation?: string
  /** For example a path or "pid 12". */
  readonly subject?: string
  readonly details?: readonly Notice[]
  /** Last lines of the engine's log, when the engine did not come up. */
  readonly engineLog?: string
}

/** The type of {@link DeltaboxError.data} by code. */
export type ErrorData<Code extends ErrorCode> = Code extends 'TIMEOUT' | 'ABORTED' | 'ROLLED_BACK'
  ? Partial<InterruptedCommandData> & EngineFailureData
  : EngineFailureData

/** How to build a {@link DeltaboxError}. */
export interface DeltaboxErrorInit<Code extends ErrorCode> {
  readonly message: string
  /** A sentence for the user, in the imperative: what to do next. */
  readonly nextStep: string
  readonly data?: ErrorData<Code>
  readonly cause?: unknown
}

/** Every failure of DeltaBox: recognise it by `code`, show `message` and `nextStep`. */
export class DeltaboxError<Code extends ErrorCode = ErrorCode> extends Error {
  /** Stable; see {@link ErrorCode}. */
  readonly code: Code
  readonly data: ErrorData<Code>
  /** What to do next. */
  readonly nextStep: string

  constructor(code: Code, init: DeltaboxErrorInit<Code>) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause })
    this.name = 'DeltaboxError'
    this.code = code
    this.data = init.data ?? {}
    this.nextStep = init.nextStep
  }

  /** What `--json` and tool results show. */
  toJSON(): { code: ErrorCode; message: string; nextStep: string; data: object } {
    return { code: this.code, message: this.message, nextStep: this.nextStep, data: this.data }
  }
}

/** Whether an error is a {@link DeltaboxError}, of a certain code if one is given. */
export function isDeltaboxError<Code extends ErrorCode>(error: unknown, code?: Code): error is DeltaboxError<Code> {
  return error instanceof DeltaboxError && (code === undefined || error.code === code)
}

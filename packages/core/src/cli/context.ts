import { Option, type Command } from 'commander'
import type { ByteSink } from '../commands/options.js'
import { DeltaboxError, isDeltaboxError } from '../errors/deltabox-error.js'
import { signalExitCode } from './exit-code.js'

/** Where a command writes to; tests give their own. */
export interface CliContext {
  readonly stdout: (text: string) => void
  readonly stderr: (text: string) => void
  /** Output of commands, as it is. A promise says that the reader of our output does not keep up. */
  readonly stdoutBytes: ByteSink
  readonly stderrBytes: ByteSink
  /** What the process will exit with. */
  setExitCode(code: number): void
  /** Fires at Ctrl-C; its reason is the signal's name. */
  readonly interrupted: AbortSignal
  /** Takes signals from `interrupted` until the returned function is called; a second one still fires it. */
  onSignal(listener: (signal: NodeJS.Signals) => void): () => void
}

/** Options that every command has. */
export interface JsonOption {
  readonly json?: boolean
}

/** The option that every command has. */
export function jsonOption(): Option {
  return new Option('--json', 'print one JSON value instead of text')
}

/** Prints a result: as JSON, or as text with a newline after it. */
export function print(context: CliContext, { json }: JsonOption, data: unknown, text: string): void {
  context.stdout(json === true ? `${JSON.stringify(data)}\n` : text === '' ? '' : `${text}\n`)
}

/** Reports a failure and sets the exit code. */
export function reportFailure(context: CliContext, { json }: JsonOption, error: unknown): void {
  const failure = isDeltaboxError(error)
    ? error
    : new DeltaboxError('INTERNAL', {
        message: error instanceof Error ? error.message : String(error),
        nextStep: 'report this as a defect',
        cause: error,
      })
  if (json === true) context.stdout(`${JSON.stringify({ error: failure })}\n`)
  context.stderr(`error ${failure.code}: ${failure.message}\nnext: ${failure.nextStep}\n`)
  const { engineLog } = failure.data as { readonly engineLog?: string }
  if (engineLog !== undefined) context.stderr(`engine.log: ${engineLog}\n`)
  const { interrupted } = context
  const isInterrupted = failure.code === 'ABORTED' && interrupted.aborted
  context.setExitCode(isInterrupted ? signalExitCode(interrupted.reason as NodeJS.Signals) : 1)
}

/** Wraps a command's action: failures are reported, never thrown. */
export function action<Args extends unknown[]>(
  context: CliContext,
  run: (...args: Args) => Promise<void>,
): (...args: [...Args, Command]) => Promise<void> {
  return async (...args) => {
    const command = args.at(-1) as Command
    try {
      await run(...(args.slice(0, -1) as Args))
    } catch (error) {
      reportFailure(context, command.opts<JsonOption>(), error)
    }
  }
}

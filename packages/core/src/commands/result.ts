import { DeltaboxError } from '../errors/deltabox-error.js'
import { toCommandLimit, type CommandLimit } from '../limits/options.js'
import { signalName } from '../protocol/failure.js'
import type { CommandExited } from '../protocol/gen/deltabox_pb.js'
import type { BoundedText } from './bounded-text.js'
import type { CommandResult } from './options.js'

/** What a command has printed so far. */
export interface CommandOutputs {
  readonly stdout: BoundedText
  readonly stderr: BoundedText
}

/** The result of an ended command; without `exit` its end was not seen. `seen`: a limit that the caller saw it reach. */
export function toResult(
  outputs: CommandOutputs,
  exit: CommandExited | undefined,
  timedOut: boolean,
  seen: CommandLimit | null = null,
): CommandResult {
  const limit = seen ?? toCommandLimit(exit?.limit ?? '')
  const signal = signalName(exit?.signal ?? 0)
  return {
    exitCode: exit === undefined || signal !== null || exit.exitCode < 0 ? null : exit.exitCode,
    signal,
    stdout: outputs.stdout.text,
    stderr: outputs.stderr.text,
    truncated: outputs.stdout.truncated || outputs.stderr.truncated || limit === 'outputBytes',
    timedOut,
    rolledBack: exit?.rolledBack ?? false,
    limit,
  }
}

/** The error of a command that a rollback ended. */
export function rolledBackError(result: CommandResult): DeltaboxError<'ROLLED_BACK'> {
  return new DeltaboxError('ROLLED_BACK', {
    message: 'a rollback to a checkpoint at which this command did not run ended it',
    nextStep: 'run the command again if it is still wanted',
    data: result,
  })
}

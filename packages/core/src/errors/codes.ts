/**
 * The stable codes of {@link DeltaboxError}. A code never changes its meaning; messages may.
 *
 * - `INVALID_ARGUMENT`: an option or argument has a wrong shape or value; nothing was done.
 * - `NOT_FOUND`: a file or directory does not exist.
 * - `NOT_A_DIRECTORY`: a directory was expected.
 * - `SANDBOX_NOT_FOUND`: no sandbox has this id.
 * - `SANDBOX_DEAD`: the sandbox's files exist, its engine does not run any more.
 * - `CHECKPOINT_NOT_FOUND`: the sandbox has no checkpoint with this id or name.
 * - `COMMAND_NOT_FOUND`: the sandbox has no command with this id, or its program does not exist.
 * - `TIMEOUT`: a time limit was reached; what ran was ended. `data` is the {@link CommandResult} so far.
 * - `ABORTED`: the caller's AbortSignal fired; what ran was ended.
 * - `ROLLED_BACK`: a rollback ended the command. `data` is the {@link CommandResult} so far.
 * - `BUSY`: the sandbox could not be brought to a stand in time; nothing changed.
 * - `UNSUPPORTED`: not offered (yet), or something in the sandbox cannot be captured.
 * - `UNSUPPORTED_KERNEL`: this kernel lacks something that is needed.
 * - `UNSUPPORTED_PLATFORM`: not Linux on x86-64, or the native part is not built.
 * - `PERMISSION_DENIED`: the system refused.
 * - `DEAD_PROCESS`: a rollback would need a process that has ended and that nobody can make again.
 * - `STALE_GENERATION`: a rollback happened since the caller last looked.
 * - `STRICT`: with `strict`, something could not be captured or restored.
 * - `ENGINE_LOST`: the connection to the engine ended during a call.
 * - `PROTOCOL`: engine and client do not understand each other.
 * - `NO_SPACE`: the disk or memory of the state directory is full.
 * - `TOO_LARGE`: beyond a bound of the wire or of a file.
 * - `ALREADY_EXISTS`: the name is taken.
 * - `DAMAGED`: something on the disk is missing or was altered; the message names it, and it is not used.
 * - `COLD_INCOMPATIBLE`: the processes of a checkpoint were written under another kernel or on another kind of processor.
 * - `INTERNAL`: a defect of ours.
 */
export const ERROR_CODES = [
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'NOT_A_DIRECTORY',
  'SANDBOX_NOT_FOUND',
  'SANDBOX_DEAD',
  'CHECKPOINT_NOT_FOUND',
  'COMMAND_NOT_FOUND',
  'TIMEOUT',
  'ABORTED',
  'ROLLED_BACK',
  'BUSY',
  'UNSUPPORTED',
  'UNSUPPORTED_KERNEL',
  'UNSUPPORTED_PLATFORM',
  'PERMISSION_DENIED',
  'DEAD_PROCESS',
  'STALE_GENERATION',
  'STRICT',
  'ENGINE_LOST',
  'PROTOCOL',
  'NO_SPACE',
  'TOO_LARGE',
  'ALREADY_EXISTS',
  'DAMAGED',
  'COLD_INCOMPATIBLE',
  'INTERNAL',
] as const

/** One of {@link ERROR_CODES}. */
export type ErrorCode = (typeof ERROR_CODES)[number]

/** Whether a string, for example one that the engine sent, is a code that this version knows. */
export function isErrorCode(value: string): value is ErrorCode {
  return (ERROR_CODES as readonly string[]).includes(value)
}

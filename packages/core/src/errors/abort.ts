import { DeltaboxError } from './deltabox-error.js'

/** The error of a call that its AbortSignal ended. */
export function abortedError(signal: AbortSignal, what: string): DeltaboxError<'ABORTED'> {
  return new DeltaboxError('ABORTED', {
    message: `${what} was aborted`,
    nextStep: 'call it again without aborting it',
    cause: signal.reason,
  })
}

/** @throws ABORTED when the signal fired already. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted === true) throw abortedError(signal, what)
}

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

/** The promise's value, unless the signal fires first; what the promise stands for goes on. */
export async function abortable<Value>(
  promise: Promise<Value>,
  signal: AbortSignal | undefined,
  what: string,
): Promise<Value> {
  if (signal === undefined) return promise
  let onAbort: (() => void) | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        onAbort = () => reject(abortedError(signal, what))
        if (signal.aborted) onAbort()
        signal.addEventListener('abort', onAbort, { once: true })
      }),
    ])
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}

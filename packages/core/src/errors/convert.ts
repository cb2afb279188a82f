import type { ErrorCode } from './codes.js'
import { DeltaboxError, isDeltaboxError } from './deltabox-error.js'

const BY_ERRNO: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'NOT_FOUND',
  ENOTDIR: 'NOT_A_DIRECTORY',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EMSGSIZE: 'TOO_LARGE',
  ENOBUFS: 'TOO_LARGE',
  EEXIST: 'ALREADY_EXISTS',
  EPIPE: 'ENGINE_LOST',
  ECONNRESET: 'ENGINE_LOST',
}

/** The next step of a failure that nothing better is known of. */
export const REPORT_WITH_LOG = 'report this with the engine log of the sandbox'

const NEXT_STEPS: Partial<Readonly<Record<ErrorCode, string>>> = {
  NOT_FOUND: 'check the path',
  NOT_A_DIRECTORY: 'name a directory',
  PERMISSION_DENIED: 'check the permissions, or use a path that you own',
  NO_SPACE: 'free space in the state directory, or set DELTABOX_STATE_DIR to another disk',
  TOO_LARGE: 'send it in smaller parts',
  ENGINE_LOST: 'run `deltabox ls` to see whether the sandbox still runs',
}

/** The errno's name that Node and the addon put on errors of system calls. */
export function errnoName(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

/** Wraps an error of a system call, keeping its errno; a DeltaboxError passes unchanged. */
export function fromSystemError(error: unknown, operation: string): DeltaboxError {
  if (isDeltaboxError(error)) return error
  const osError = errnoName(error)
  const code = (osError === undefined ? undefined : BY_ERRNO[osError]) ?? 'INTERNAL'
  return new DeltaboxError(code, {
    message: `${operation}: ${error instanceof Error ? error.message : String(error)}`,
    nextStep: NEXT_STEPS[code] ?? REPORT_WITH_LOG,
    data: { operation, ...(osError === undefined ? {} : { osError }) },
    cause: error,
  })
}

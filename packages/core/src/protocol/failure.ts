import { constants } from 'node:os'
import { isErrorCode, type ErrorCode } from '../errors/codes.js'
import { DeltaboxError, type EngineFailureData, type Notice } from '../errors/deltabox-error.js'
import type { Failure, Notice as WireNotice } from './gen/deltabox_pb.js'

const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]))
const SIGNAL_NAMES = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]))

/** The next step of a failure for which the engine knows no better one. */
export const LOOK_INTO_LOG = 'look into engine.log in the sandbox’s state directory'
const NEXT_STEPS: Partial<Record<ErrorCode, string>> = {
  NO_SPACE: 'free space and inodes on the disk of the state directory, then call again',
  NOT_FOUND: 'check the path: list the directory that it should be in',
  NOT_A_DIRECTORY: 'check the path: a part of it is no directory',
  PERMISSION_DENIED: 'check owner and mode; what is read-only inside is listed in docs/limits.md',
}

/** "SIGKILL" for 9; null for 0, which the wire uses for none. */
export function signalName(signal: number): string | null {
  return signal === 0 ? null : (SIGNAL_NAMES.get(signal) ?? `SIG${signal}`)
}

/** Strips what the wire library adds. */
export function toNotice({ pid, kind, reason }: WireNotice): Notice {
  return { pid, kind, reason }
}

/** The error that a failure of the engine is. */
export function toError(failure: Failure): DeltaboxError {
  const code = isErrorCode(failure.code) ? failure.code : 'INTERNAL'
  const data: EngineFailureData = {
    ...(failure.osErrno === 0 ? {} : { osError: ERRNO_NAMES.get(failure.osErrno) ?? String(failure.osErrno) }),
    ...(failure.operation === '' ? {} : { operation: failure.operation }),
    ...(failure.subject === '' ? {} : { subject: failure.subject }),
    ...(failure.details.length === 0 ? {} : { details: failure.details.map(toNotice) }),
  }
  return new DeltaboxError(code, {
    message: failure.message === '' ? failure.code : failure.message,
    nextStep: failure.nextStep !== '' ? failure.nextStep : (NEXT_STEPS[code] ?? LOOK_INTO_LOG),
    data,
  })
}

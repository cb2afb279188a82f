import { loadNative, type Native } from '@deltabox/native'
import { DeltaboxError } from '../errors/deltabox-error.js'

export type { Addon, Channel } from '@deltabox/native'

/**
 * The addon and the engine's path.
 * @throws UNSUPPORTED_PLATFORM
 */
export function native(): Native {
  try {
    return loadNative()
  } catch (error) {
    const nextStep = error instanceof Error && 'nextStep' in error ? String(error.nextStep) : 'reinstall DeltaBox'
    throw new DeltaboxError('UNSUPPORTED_PLATFORM', {
      message: error instanceof Error ? error.message : String(error),
      nextStep,
      cause: error,
    })
  }
}

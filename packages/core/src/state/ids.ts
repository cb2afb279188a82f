import { randomBytes } from 'node:crypto'
import { DeltaboxError } from '../errors/deltabox-error.js'

// Lower-case RFC 4648 base32: no upper case (file systems), no 0, 1, 8, 9 (misread).
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
const RANDOM_CHARS = 12
const SANDBOX_ID = /^sbx_[a-z2-7]{12}$/

/** A new sandbox id: `sbx_` and 12 base32 characters (60 random bits). */
export function newSandboxId(random: (sizeBytes: number) => Uint8Array = randomBytes): string {
  // 256 is a multiple of 32, so taking five bits of each byte is uniform.
  return 'sbx_' + Array.from(random(RANDOM_CHARS), (byte) => ALPHABET[byte & 31]).join('')
}

/** Whether a string has the form of a sandbox id. Ids become parts of paths: nothing else may. */
export function isSandboxId(value: string): boolean {
  return SANDBOX_ID.test(value)
}

/** @throws INVALID_ARGUMENT when the value does not have the form of a sandbox id. */
export function assertSandboxId(value: string): void {
  if (typeof value === 'string' && isSandboxId(value)) return
  throw new DeltaboxError('INVALID_ARGUMENT', {
    message: `${JSON.stringify(value)} is not a sandbox id (sbx_ and 12 characters of a–z and 2–7)`,
    nextStep: 'run `deltabox ls` to see the ids',
  })
}

import { DeltaboxError } from '../errors/deltabox-error.js'

/** A path inside: text, or bytes for names that are no UTF-8. Relative ones start at the workspace's mount. */
export type InsidePath = string | Uint8Array

const MAX_PATH_BYTES = 4095
const SLASH = 0x2f
const DOT = 0x2e

/** The absolute path as bytes. @throws INVALID_ARGUMENT */
export function resolvePath(path: InsidePath, workspaceMount: string): Buffer {
  const bytes = toBytes(path)
  const absolute = bytes[0] === SLASH ? bytes : inWorkspace(bytes, workspaceMount)
  if (absolute.length > MAX_PATH_BYTES) throw wrong('is longer than 4,095 bytes')
  return absolute
}

/** "." is the workspace's mount itself, so that the paths of what it holds have no dot in them. */
function inWorkspace(relative: Buffer, workspaceMount: string): Buffer {
  let start = 0
  while (relative[start] === DOT && (relative[start + 1] ?? SLASH) === SLASH) start += 2
  const mount = Buffer.from(workspaceMount)
  return start >= relative.length ? mount : joinPath(mount, relative.subarray(start))
}

function toBytes(path: InsidePath): Buffer {
  if (typeof path !== 'string' && !(path instanceof Uint8Array)) throw wrong('must be a string, or bytes')
  // Such a string has no UTF-8 form: its lone surrogates would silently become another name.
  if (typeof path === 'string' && Buffer.from(path, 'utf8').toString('utf8') !== path) {
    throw wrong('holds half of a surrogate pair; give bytes for names that are no UTF-8')
  }
  const bytes = Buffer.from(path as string)
  if (bytes.length === 0) throw wrong('is empty')
  if (bytes.includes(0)) throw wrong('contains a NUL byte')
  return bytes
}

function wrong(what: string): DeltaboxError<'INVALID_ARGUMENT'> {
  return new DeltaboxError('INVALID_ARGUMENT', { message: `path: ${what}`, nextStep: 'correct path' })
}

/** A name or path as text; what is no UTF-8 in it becomes U+FFFD. */
export function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}

/** Whether the text names exactly these bytes. */
export function isExactText(bytes: Uint8Array): boolean {
  return Buffer.from(toText(bytes), 'utf8').equals(bytes)
}

/** The path of an entry in a directory. */
export function joinPath(directory: Uint8Array, name: Uint8Array): Buffer {
  const separator = directory.at(-1) === SLASH ? [] : [Buffer.of(SLASH)]
  return Buffer.concat([directory, ...separator, name])
}

import type { FileInfo } from '../protocol/gen/deltabox_pb.js'
import { isExactText, toText } from './paths.js'

/** What an entry of a directory is. */
export type EntryType = 'file' | 'dir' | 'symlink' | 'fifo' | 'socket' | 'device'

/** An entry of a directory; of a link, the link itself. */
export interface EntryInfo {
  /** Last part of the path. Bytes that are no UTF-8 are shown as U+FFFD: see `rawPath`. */
  readonly name: string
  /** Absolute, inside the sandbox. */
  readonly path: string
  /** The exact path, only where `path` is not exact; every call takes it in its place. */
  readonly rawPath?: Uint8Array
  readonly type: EntryType
  readonly sizeBytes: number
  /** Permission bits, for example 0o644. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Unix time in milliseconds. */
  readonly modifiedAtMs: number
  /** How many names the file has. */
  readonly links: number
  /** Where a link leads to, as it stands in the link; bytes that are no UTF-8 are shown as U+FFFD. */
  readonly symlinkTarget?: string
}

const TYPE_MASK = 0o170000
const TYPES = new Map<number, EntryType>([
  [0o100000, 'file'],
  [0o040000, 'dir'],
  [0o120000, 'symlink'],
  [0o010000, 'fifo'],
  [0o140000, 'socket'],
])

/** Plain data from a message of the engine. */
export function toEntryInfo(wire: FileInfo, path: Uint8Array): EntryInfo {
  const type = TYPES.get(wire.mode & TYPE_MASK) ?? 'device'
  return {
    name: toText(wire.name),
    path: toText(path),
    ...(isExactText(path) ? {} : { rawPath: Uint8Array.from(path) }),
    type,
    sizeBytes: Number(wire.sizeBytes),
    mode: wire.mode & 0o7777,
    uid: wire.uid,
    gid: wire.gid,
    modifiedAtMs: Number(wire.modifiedAtNs) / 1e6,
    links: Number(wire.links),
    ...(type === 'symlink' ? { symlinkTarget: toText(wire.linkTarget) } : {}),
  }
}

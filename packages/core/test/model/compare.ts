import { differences } from '../support/reader.js'
import type { Expectations } from './expectations.js'
import type { Snapshot } from './line-process.js'

// Times that an operation sets lie before it, times that a clock sets after it: 2001-09-09.
const LAST_SET_NS = 1e18
// A copy-up of overlayfs fills the holes of the megabytes in which data lie; sparse files of the model are 60 MB long.
const ALLOCATION_SLACK_BYTES = 4 << 20
const ALLOCATION_FACTOR = 2

const unsteady = ({ inodeNumbers, linkCounts }: Expectations) => [
  ...(inodeNumbers ? [] : ['ino']),
  ...(linkCounts ? [] : ['links']),
]

/** Where a sandbox differs from itself at another time: everything counts but blocks that a copy may lay out anew. */
export function changedSince(before: Snapshot, after: Snapshot, switches: Expectations): string[] {
  const ignored = new Set(['allocated', ...unsteady(switches)])
  const pick = (key: string, value: unknown) => (ignored.has(key) ? undefined : value)
  return differences(filter(before, pick), filter(after, pick))
}

/** Where a sandbox differs from the plain copy: everything but what the two file systems choose for themselves. */
export function differsFromReplica(replica: Snapshot, sandbox: Snapshot, switches: Expectations): string[] {
  const ignored = new Set(['allocated', 'ino', ...unsteady(switches)])
  const pick = (key: string, value: unknown) =>
    ignored.has(key) || (key === 'mtime' && Number(value) > LAST_SET_NS) ? undefined : value
  return [...differences(filter(replica, pick), filter(sandbox, pick)), ...grownFiles(replica, sandbox, '')]
}

/** Files that take far more blocks than in the plain copy: a hole was filled. */
function grownFiles(replica: unknown, sandbox: unknown, path: string): string[] {
  if (!isTree(replica) || !isTree(sandbox)) return []
  const found = Object.keys(sandbox).flatMap((key) => grownFiles(replica[key], sandbox[key], `${path}/${key}`))
  const [plain, own] = [replica['allocated'], sandbox['allocated']]
  if (
    typeof plain === 'number' &&
    typeof own === 'number' &&
    own > plain * ALLOCATION_FACTOR + ALLOCATION_SLACK_BYTES
  ) {
    found.push(`${path}: ${plain} → ${own} bytes allocated`)
  }
  return found
}

const isTree = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

function filter(value: unknown, pick: (key: string, value: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => filter(item, pick))
  if (!isTree(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, isTree(item) ? filter(item, pick) : pick(key, item)]),
  )
}

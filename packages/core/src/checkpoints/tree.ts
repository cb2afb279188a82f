import type { Checkpoint } from './checkpoint.js'

/** All checkpoints of a sandbox and which one the live state derives from. */
export interface CheckpointList {
  readonly checkpoints: readonly Checkpoint[]
  /** Id; null before the first checkpoint. */
  readonly head: string | null
}

/** A checkpoint with those that derive from it. */
export interface CheckpointNode {
  readonly checkpoint: Checkpoint
  readonly isHead: boolean
  readonly children: readonly CheckpointNode[]
}

/**
 * The tree that the parents of the checkpoints span; siblings in the order of their creation. A checkpoint whose
 * parent is not in the list (deleted) is a root.
 */
export function buildCheckpointTree({ checkpoints, head }: CheckpointList): CheckpointNode[] {
  const known = new Set(checkpoints.map(({ id }) => id))
  const byParent = new Map<string | null, Checkpoint[]>()
  for (const checkpoint of checkpoints) {
    const parent = checkpoint.parent !== null && known.has(checkpoint.parent) ? checkpoint.parent : null
    byParent.set(parent, [...(byParent.get(parent) ?? []), checkpoint])
  }
  const nodesBelow = (parent: string | null): CheckpointNode[] =>
    (byParent.get(parent) ?? [])
      .sort((a, b) => a.createdAtMs - b.createdAtMs)
      .map((checkpoint) => ({ checkpoint, isHead: checkpoint.id === head, children: nodesBelow(checkpoint.id) }))
  return nodesBelow(null)
}

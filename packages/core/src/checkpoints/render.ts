import type { Checkpoint } from './checkpoint.js'
import { buildCheckpointTree, type CheckpointList, type CheckpointNode } from './tree.js'

function describe({ id, name, isSafety, pauseMs, dirtyPages, changedFiles }: Checkpoint): string {
  const label = name ?? (isSafety ? '(before a rollback)' : '')
  const figures = `pause ${pauseMs.toFixed(2)} ms, ${dirtyPages} pages, ${changedFiles} files`
  return [id, label, figures].filter((part) => part !== '').join('  ')
}

function renderNodes(nodes: readonly CheckpointNode[], indent: string): string[] {
  return nodes.flatMap((node, index) => {
    const isLast = index === nodes.length - 1
    const line = `${indent}${isLast ? '└─ ' : '├─ '}${describe(node.checkpoint)}${node.isHead ? '  ← head' : ''}`
    return [line, ...renderNodes(node.children, indent + (isLast ? '   ' : '│  '))]
  })
}

/** The tree as text, one line per checkpoint, without a final newline. */
export function renderCheckpointTree(list: CheckpointList): string {
  if (list.checkpoints.length === 0) return 'no checkpoints yet'
  return renderNodes(buildCheckpointTree(list), '').join('\n')
}

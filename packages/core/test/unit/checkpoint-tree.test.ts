import { expect, test } from 'vitest'
import { buildCheckpointTree, renderCheckpointTree, type Checkpoint } from '../../src/index.js'

function checkpoint(
  id: string,
  parent: string | null,
  createdAtMs: number,
  more: Partial<Checkpoint> = {},
): Checkpoint {
  const parts = { freezeUs: 0, describeUs: 0, scanUs: 0, copyUs: 0, switchUs: 0, reopenUs: 0, applyUs: 0, thawUs: 0 }
  return {
    ...{
      id,
      parent,
      createdAtMs,
      parts,
      name: null,
      metadata: {},
      pauseMs: 0.5,
      dirtyPages: 10,
      parkedPages: 0,
      totalPages: 100,
    },
    ...{ copiedBytes: 0, layerBytes: 0, changedFiles: 2, changedVolumes: 1, processes: 1, threads: 1, warnings: [] },
    ...{
      isSafety: false,
      engineMs: 1,
      copiedOpenFileBytes: 0,
      copiedAheadBytes: 0,
      durable: false,
      lostProcesses: 0,
      cold: false,
      pinned: false,
    },
    ...more,
  }
}

const list = {
  checkpoints: [
    checkpoint('d', 'a', 40, { isSafety: true }),
    checkpoint('a', null, 10, { name: 'start' }),
    checkpoint('c', 'b', 30),
    checkpoint('b', 'a', 20),
    checkpoint('e', 'deleted', 50),
  ],
  head: 'c',
}

test('the tree has siblings in order of creation and orphans as roots', () => {
  const [start, orphan] = buildCheckpointTree(list)
  expect(start?.children.map(({ checkpoint: { id } }) => id)).toEqual(['b', 'd'])
  expect(start?.children[0]?.children[0]).toMatchObject({ isHead: true, checkpoint: { id: 'c' } })
  expect(orphan?.checkpoint.id).toBe('e')
})

test('the text draws the tree and marks the head', () => {
  expect(renderCheckpointTree(list)).toBe(
    [
      '├─ a  start  pause 0.50 ms, 10 pages, 2 files',
      '│  ├─ b  pause 0.50 ms, 10 pages, 2 files',
      '│  │  └─ c  pause 0.50 ms, 10 pages, 2 files  ← head',
      '│  └─ d  (before a rollback)  pause 0.50 ms, 10 pages, 2 files',
      '└─ e  pause 0.50 ms, 10 pages, 2 files',
    ].join('\n'),
  )
  expect(renderCheckpointTree({ checkpoints: [], head: null })).toBe('no checkpoints yet')
})

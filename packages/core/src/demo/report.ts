import { renderCheckpointTree } from '../checkpoints/render.js'
import { renderTable } from '../text/table.js'
import type { DemoOutcome } from './story.js'

const ms = (durationMs: number) => `${durationMs.toFixed(2)} ms`

/** The tree and the table of what was measured, as text. */
export function renderDemoReport({ claims, checkpoint, rollback, redo, again, list }: DemoOutcome): string {
  const rollbackRow = (label: string, done: typeof rollback) => [
    label,
    ms(done.pauseMs),
    ms(done.callMs),
    `${done.writtenPages} written, ${done.capturedPages} captured`,
    '',
    '',
  ]
  const table = renderTable(
    ['', 'PAUSE', 'CALL', 'PAGES', 'BYTES', 'FILES'],
    [
      [
        'checkpoint',
        ms(checkpoint.pauseMs),
        ms(checkpoint.callMs),
        `${checkpoint.dirtyPages} of ${checkpoint.totalPages}`,
        `${checkpoint.copiedBytes + checkpoint.layerBytes}`,
        `${checkpoint.changedFiles}`,
      ],
      rollbackRow('rollback', rollback),
      rollbackRow('undo', redo),
      rollbackRow('rollback again', again),
    ],
  )
  const held = claims.filter(({ holds }) => holds).length
  return ['', renderCheckpointTree(list), '', table, '', `${held} of ${claims.length} claims hold`].join('\n')
}

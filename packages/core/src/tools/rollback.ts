import { z } from 'zod'
import { defineTool } from './define-tool.js'
import { noticeSchema } from './schemas.js'
import { renderNotices } from './text.js'

/** Rolls back. */
export const rollbackTool = defineTool({
  name: 'rollback',
  title: 'Roll the sandbox back to a checkpoint',
  description:
    'Returns the sandbox to a checkpoint: files are as they were, processes that lived then go on with the memory ' +
    'and pid they had (also those that have ended since), processes started since are ended. The state before the ' +
    'rollback is kept as a safety checkpoint: roll back to that to undo.',
  inputSchema: z.strictObject({
    target: z.string().min(1).describe('Id or name of a checkpoint.'),
  }),
  outputSchema: z.object({
    checkpoint: z.string(),
    safetyCheckpoint: z.string().nullable(),
    pauseMs: z.number(),
    processes: z.number(),
    endedProcesses: z.number(),
    restoredProcesses: z.number().describe('Those of the checkpoint that had ended and were made again.'),
    notRestored: z.array(noticeSchema),
  }),
  isReadOnly: false,
  isDestructive: true,
  run: async (place, { target }, { signal }) => {
    const sandbox = await place.sandbox()
    const done = await sandbox.rollback(target, signal === undefined ? {} : { signal })
    const { checkpoint, safetyCheckpoint, pauseMs, processes, endedProcesses, restoredProcesses, notRestored } = done
    const undo = safetyCheckpoint === null ? '' : `; to undo, roll back to ${safetyCheckpoint}`
    return {
      text:
        `rolled back to ${checkpoint}: ${processes} processes restored, ${endedProcesses} ended, ` +
        (restoredProcesses > 0 ? `${restoredProcesses} made again, ` : '') +
        `pause ${pauseMs.toFixed(2)} ms${undo}${renderNotices('not restored:', notRestored)}`,
      data: {
        checkpoint,
        safetyCheckpoint,
        pauseMs,
        processes,
        endedProcesses,
        restoredProcesses,
        notRestored: [...notRestored],
      },
    }
  },
})

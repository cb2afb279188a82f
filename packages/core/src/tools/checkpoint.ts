import { z } from 'zod'
import { defineTool } from './define-tool.js'
import { noticeSchema } from './schemas.js'
import { renderNotices } from './text.js'

/** Takes a checkpoint. */
export const checkpointTool = defineTool({
  name: 'checkpoint',
  title: 'Take a checkpoint of the sandbox',
  description:
    'Keeps the complete state of the sandbox: all files of the workspace and the memory of all running processes. ' +
    'It takes milliseconds and copies only what changed: take one before anything risky and after each step that ' +
    'worked. Returns the id to roll back to.',
  inputSchema: z.strictObject({
    name: z.string().optional().describe('A name to roll back to, unique in the sandbox. Default: none.'),
  }),
  outputSchema: z.object({
    id: z.string(),
    parent: z.string().nullable(),
    name: z.string().nullable(),
    pauseMs: z.number(),
    dirtyPages: z.number(),
    changedFiles: z.number(),
    processes: z.number(),
    warnings: z.array(noticeSchema),
  }),
  isReadOnly: false,
  isDestructive: false,
  run: async (place, { name }, { signal }) => {
    const sandbox = await place.sandbox()
    const taken = await sandbox.checkpoint({
      ...(name === undefined ? {} : { name }),
      ...(signal === undefined ? {} : { signal }),
    })
    const { id, parent, pauseMs, dirtyPages, changedFiles, processes, warnings } = taken
    const label = taken.name === null ? id : `${id} (${taken.name})`
    return {
      text:
        `checkpoint ${label}: ${processes} processes, ${dirtyPages} changed pages, ${changedFiles} changed files, ` +
        `pause ${pauseMs.toFixed(2)} ms${renderNotices('not captured:', warnings)}`,
      data: { id, parent, name: taken.name, pauseMs, dirtyPages, changedFiles, processes, warnings: [...warnings] },
    }
  },
})

import { z } from 'zod'
import { renderCheckpointTree } from '../checkpoints/render.js'
import { defineTool } from './define-tool.js'

/** Lists the checkpoints. */
export const listCheckpointsTool = defineTool({
  name: 'list_checkpoints',
  title: 'List the checkpoints of the sandbox',
  description: 'The tree of checkpoints, oldest first; the head is the one that the present state derives from.',
  inputSchema: z.strictObject({}),
  outputSchema: z.object({
    head: z.string().nullable(),
    checkpoints: z.array(
      z.object({
        id: z.string(),
        parent: z.string().nullable(),
        name: z.string().nullable(),
        createdAtMs: z.number(),
        isSafety: z.boolean().describe('Whether a rollback took it, so that it can be undone.'),
      }),
    ),
  }),
  isReadOnly: true,
  isDestructive: false,
  run: async (place, _input, { signal }) => {
    const sandbox = await place.sandbox()
    const list = await sandbox.listCheckpoints(signal === undefined ? {} : { signal })
    return {
      text: renderCheckpointTree(list),
      data: {
        head: list.head,
        checkpoints: list.checkpoints.map(({ id, parent, name, createdAtMs, isSafety }) => ({
          id,
          parent,
          name,
          createdAtMs,
          isSafety,
        })),
      },
    }
  },
})

import { z } from 'zod'
import { defineTool } from './define-tool.js'

/** Ends one fork. */
export const endForkTool = defineTool({
  name: 'end_fork',
  title: 'End a fork',
  description: 'Ends a fork that is of no more use, with all that was done in it. The others stay.',
  inputSchema: z.strictObject({}),
  sandboxInput: z.string().min(1).describe('Name of the fork.'),
  outputSchema: z.object({ ended: z.string() }),
  isReadOnly: false,
  isDestructive: true,
  run: async (_place, _input, { session, sandboxName }) => {
    await session.endFork(sandboxName)
    return { text: `ended ${sandboxName}`, data: { ended: sandboxName } }
  },
})

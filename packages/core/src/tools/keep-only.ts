import { z } from 'zod'
import { defineTool } from './define-tool.js'
import { MAIN } from './session.js'

/** Ends all sandboxes but one. */
export const keepOnlyTool = defineTool({
  name: 'keep_only',
  title: 'Go on with one sandbox and end the others',
  description:
    'Makes a fork the main sandbox, in which tools work from now on, and ends all other forks and the main sandbox of ' +
    `before. With sandbox: "${MAIN}" all forks are ended. What was done in those that end is lost.`,
  inputSchema: z.strictObject({}),
  sandboxInput: z.string().min(1).describe(`Name of a fork, or ${MAIN}.`),
  outputSchema: z.object({
    id: z.string().describe('Of the main sandbox, for use outside these tools.'),
    ended: z.array(z.string()),
  }),
  isReadOnly: false,
  isDestructive: true,
  run: async (place, _input, { session, sandboxName }) => {
    const { id } = await place.sandbox()
    const ended = await session.keepOnly(sandboxName)
    return {
      text: `${sandboxName === MAIN ? '' : `${sandboxName} is `}${MAIN} (${id}); ended: ${ended.join(', ') || 'none'}`,
      data: { id, ended: [...ended] },
    }
  },
})

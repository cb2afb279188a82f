import { z } from 'zod'
import { defineTool } from './define-tool.js'
import { MAX_FORKS } from './session.js'

/** Makes forks. */
export const forkTool = defineTool({
  name: 'fork',
  title: 'Fork the sandbox',
  description:
    'Makes sandboxes that go on from a checkpoint, each with its own files and running processes (same pids and ' +
    'commandIds), to try several ways side by side. Give a name that it returns as `sandbox` to any tool; main stays ' +
    'as it is. Compare the results, then call keep_only with the best.',
  inputSchema: z.strictObject({
    count: z.int().min(1).max(MAX_FORKS).describe(`How many. At most ${MAX_FORKS} at a time.`),
    from: z.string().min(1).optional().describe('Id or name of a checkpoint. Default: the present state.'),
  }),
  outputSchema: z.object({
    checkpoint: z.string().describe('The checkpoint that they go on from.'),
    sandboxes: z.array(z.object({ name: z.string(), id: z.string().describe('For use outside these tools.') })),
    failures: z.array(z.string()).describe('Why others could not be made.'),
  }),
  isReadOnly: false,
  isDestructive: false,
  run: async (_place, { count, from }, { session, sandboxName, signal }) => {
    const { checkpoint, sandboxes, failures } = await session.fork(sandboxName, { count, from, signal })
    const reasons = failures.map((failure) => (failure instanceof Error ? failure.message : String(failure)))
    const names = sandboxes.map(({ name }) => name).join(', ')
    const missing = reasons.length === 0 ? '' : `\n${reasons.length} could not be made: ${reasons.join('; ')}`
    return {
      text: `forked from ${checkpoint}: ${names}${missing}`,
      data: { checkpoint, sandboxes: [...sandboxes], failures: reasons },
    }
  },
})

import { tool, type StructuredTool } from '@langchain/core/tools'
import { ToolMessage } from '@langchain/core/messages'
import { Sandbox, type CreateSandboxOptions } from '@deltabox/core'
import { agentTools, renderFailure, ToolSession, type AgentTool } from '@deltabox/core/tools'

/** A process that is killed can't end the sandbox that it made. */
const ORPHAN_TIMEOUT_MS = 600_000

/** The tools as an array for `createAgent({ tools })`; closing them ends a sandbox that they made. */
export type DeltaboxTools = StructuredTool[] &
  AsyncDisposable & {
    /** Ends the sandbox if these tools made it, and the forks; one that was passed in is not touched. Idempotent. */
    close(): Promise<void>
    /**
     * The sandbox that the agent works in: once it has kept a fork, that one. In place of one that was passed in, a fork
     * is yours to kill as well; it ends 10 minutes after its last client left.
     */
    sandbox(): Promise<Sandbox>
  }

/** What LangChain passes beside the input, as far as it is used here. */
interface CallConfig {
  readonly signal?: AbortSignal
  readonly toolCall?: { readonly id?: string | undefined }
}

/**
 * The tools `exec`, `read_file`, `write_file`, `edit_file`, `list_files`, `change_files`, `checkpoint`, `rollback` and
 * `list_checkpoints`, in one sandbox or in forks of it that the agent makes and ends: `fork`, `end_fork`, `keep_only`.
 *
 * A failure of a tool is a message with status "error" that tells the model what to do next; it does not end the
 * agent's run.
 *
 * @param target - a sandbox of yours, or the options (network, limits, rootfs, volumes, …) of one that is made at the first call and ended by `close()`, or 10
 * minutes after this process died (`orphanTimeoutMs`).
 * @example
 * await using tools = createDeltaboxTools({ workspace: '.' })
 * const agent = createAgent({ model, tools })
 */
export function createDeltaboxTools(target: Sandbox | CreateSandboxOptions = {}): DeltaboxTools {
  const session =
    target instanceof Sandbox
      ? new ToolSession({ open: () => Promise.resolve(target), atClose: 'keep' })
      : new ToolSession({
          open: () => Sandbox.create({ orphanTimeoutMs: ORPHAN_TIMEOUT_MS, ...target }),
          atClose: 'kill',
        })
  const close = () => session.close()
  return Object.assign(
    agentTools.map((agentTool) => toLangChainTool(agentTool, session)),
    { close, sandbox: () => session.at().sandbox(), [Symbol.asyncDispose]: close },
  )
}

function toLangChainTool(agentTool: AgentTool, session: ToolSession): StructuredTool {
  const { name, description, inputSchema } = agentTool
  return tool(
    async (input: unknown, config: CallConfig) => {
      const { signal, toolCall } = config
      const { text, artifact, status } = await callTool(agentTool, session, input, signal)
      // Called without a model (a test, a script): there is no message to answer.
      if (toolCall?.id === undefined) return text
      return new ToolMessage({ content: text, artifact, status, name, tool_call_id: toolCall.id })
    },
    { name, description, schema: inputSchema },
  )
}

async function callTool(
  agentTool: AgentTool,
  session: ToolSession,
  input: unknown,
  signal: AbortSignal | undefined,
): Promise<{ text: string; artifact: Record<string, unknown>; status: 'success' | 'error' }> {
  try {
    const { text, data } = await agentTool.call(session, input, { signal })
    return { text, artifact: data, status: 'success' }
  } catch (error) {
    const { text, data } = renderFailure(error)
    return { text, artifact: data, status: 'error' }
  }
}

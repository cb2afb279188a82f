import { readFileSync } from 'node:fs'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { agentTools, type AgentTool, type ToolSession } from '@deltabox/core/tools'
import { toCallResult, toErrorResult } from './result.js'

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

const INSTRUCTIONS =
  'A sandbox with the project as its workspace. Take a checkpoint before anything risky: it takes milliseconds and ' +
  'keeps files and running processes together. When something went wrong, roll back instead of repairing. ' +
  'To try several ways, fork, and keep the best.'

/** An MCP server whose tools work in the session's sandbox. Connect it to a transport; the caller closes the session. */
export function createMcpServer(session: ToolSession): McpServer {
  const server = new McpServer({ name: 'deltabox', version }, { instructions: INSTRUCTIONS })
  for (const tool of agentTools) register(server, session, tool)
  return server
}

function register(server: McpServer, session: ToolSession, tool: AgentTool): void {
  const { name, title, description, inputSchema, outputSchema, isReadOnly, isDestructive } = tool
  server.registerTool(
    name,
    {
      title,
      description,
      inputSchema,
      outputSchema,
      annotations: { readOnlyHint: isReadOnly, destructiveHint: isDestructive, openWorldHint: false },
    },
    async (input: unknown, { signal }: { signal: AbortSignal }) => {
      try {
        return toCallResult(await tool.call(session, input, { signal }))
      } catch (error) {
        return toErrorResult(error)
      }
    },
  )
}

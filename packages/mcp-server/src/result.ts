import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import { renderFailure, type ToolOutcome } from '@deltabox/core/tools'

/** A tool's outcome as MCP wants it: text for the model, the same as data. */
export function toCallResult({ text, data }: ToolOutcome<Record<string, unknown>>): CallToolResult {
  return { content: [{ type: 'text', text }], structuredContent: data }
}

/**
 * A tool's failure is a result that the model reads, with the next step in its text; not a protocol error. Structured
 * content would have to match the tool's output schema (clients check it): the failure as data is beside it.
 */
export function toErrorResult(error: unknown): CallToolResult {
  const { text, data } = renderFailure(error)
  return { content: [{ type: 'text', text }], isError: true, _meta: { 'deltabox/error': data['error'] } }
}

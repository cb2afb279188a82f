import { checkpointTool } from './checkpoint.js'
import type { AgentTool } from './define-tool.js'
import { execTool } from './exec.js'
import { listCheckpointsTool } from './list-checkpoints.js'
import { rollbackTool } from './rollback.js'

/** All tools, in the order in which agents see them. */
export const agentTools: readonly AgentTool[] = [execTool, checkpointTool, rollbackTool, listCheckpointsTool]

export { checkpointTool, execTool, listCheckpointsTool, rollbackTool }
export { defineTool, type AgentTool, type ToolCall, type ToolDefinition, type ToolOutcome } from './define-tool.js'
export { ToolSession, type ToolSessionInit } from './session.js'
export { renderFailure } from './text.js'
export { renderToolTables } from './table.js'

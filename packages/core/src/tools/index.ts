import { changeFilesTool } from './change-files.js'
import { checkpointTool } from './checkpoint.js'
import type { AgentTool } from './define-tool.js'
import { editFileTool } from './edit-file.js'
import { endForkTool } from './end-fork.js'
import { execTool } from './exec.js'
import { forkTool } from './fork.js'
import { keepOnlyTool } from './keep-only.js'
import { listCheckpointsTool } from './list-checkpoints.js'
import { listFilesTool } from './list-files.js'
import { readFileTool } from './read-file.js'
import { rollbackTool } from './rollback.js'
import { writeFileTool } from './write-file.js'

/** All tools, in the order in which agents see them. */
export const agentTools: readonly AgentTool[] = [
  ...[execTool, readFileTool, writeFileTool, editFileTool, listFilesTool, changeFilesTool],
  ...[checkpointTool, rollbackTool, listCheckpointsTool, forkTool, endForkTool, keepOnlyTool],
]

export { checkpointTool, execTool, listCheckpointsTool, rollbackTool }
export { endForkTool, forkTool, keepOnlyTool }
export { changeFilesTool, editFileTool, listFilesTool, readFileTool, writeFileTool }
export {
  defineTool,
  type AgentTool,
  type ToolCall,
  type ToolContext,
  type ToolDefinition,
  type ToolOutcome,
} from './define-tool.js'
export { MAIN, ToolSession, type ToolSessionInit } from './session.js'
export type { ToolSandbox } from './tool-sandbox.js'
export { renderFailure } from './text.js'
export { renderToolTables } from './table.js'

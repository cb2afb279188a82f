import type { z } from 'zod'
import { validate } from '../errors/validate.js'
import type { ToolSession } from './session.js'

/** What a tool gives back: text for the model, the same as data for programs. */
export interface ToolOutcome<Output> {
  readonly text: string
  readonly data: Output
}

/** How a tool is called. */
export interface ToolCall {
  /** Ends the call. */
  readonly signal?: AbortSignal | undefined
}

/** A tool as all adapters offer it. */
export interface AgentTool<Input extends z.ZodObject = z.ZodObject, Output extends z.ZodObject = z.ZodObject> {
  readonly name: string
  readonly title: string
  /** For the model: what it does and when to use it. */
  readonly description: string
  readonly inputSchema: Input
  readonly outputSchema: Output
  /** Whether it leaves the sandbox as it is. */
  readonly isReadOnly: boolean
  /** Whether it can discard something. */
  readonly isDestructive: boolean
  /**
   * Checks the input and does the work.
   * @throws DeltaboxError; adapters show it with `renderFailure`.
   */
  call(session: ToolSession, input: unknown, call?: ToolCall): Promise<ToolOutcome<z.output<Output>>>
}

/** A tool's definition, with typed input and output. */
export interface ToolDefinition<Input extends z.ZodObject, Output extends z.ZodObject> extends Omit<
  AgentTool<Input, Output>,
  'call'
> {
  readonly run: (session: ToolSession, input: z.output<Input>, call: ToolCall) => Promise<ToolOutcome<z.output<Output>>>
}

/** Makes a tool of its definition: adds the check of the input. */
export function defineTool<Input extends z.ZodObject, Output extends z.ZodObject>(
  definition: ToolDefinition<Input, Output>,
): AgentTool<Input, Output> {
  const { run, ...description } = definition
  return {
    ...description,
    call: async (session, input, call = {}) =>
      run(session, validate(definition.inputSchema, input, definition.name), call),
  }
}

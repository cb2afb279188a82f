import { z } from 'zod'
import { validate } from '../errors/validate.js'
import { MAIN, type ToolSession } from './session.js'
import type { ToolSandbox } from './tool-sandbox.js'

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
export interface AgentTool<Output extends z.ZodObject = z.ZodObject> {
  readonly name: string
  readonly title: string
  /** For the model: what it does and when to use it. */
  readonly description: string
  readonly inputSchema: z.ZodObject
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

/** A call of a tool: in which sandbox of which session, and how. */
export interface ToolContext extends ToolCall {
  readonly session: ToolSession
  /** The name that the caller gave. */
  readonly sandboxName: string
}

/** A tool's definition, with typed input and output. */
export interface ToolDefinition<Input extends z.ZodObject, Output extends z.ZodObject> extends Omit<
  AgentTool<Output>,
  'call' | 'inputSchema'
> {
  /** Without the input `sandbox`, which every tool has. */
  readonly inputSchema: Input
  /** @default optional: main */
  readonly sandboxInput?: z.ZodString
  readonly run: (
    place: ToolSandbox,
    input: z.output<Input>,
    context: ToolContext,
  ) => Promise<ToolOutcome<z.output<Output>>>
}

const sandboxOrMain = z.string().min(1).optional().describe(`Name of a fork to work in. Default: ${MAIN}.`)

/** Makes a tool of its definition: adds the input `sandbox`, and the check of the input. */
export function defineTool<Input extends z.ZodObject, Output extends z.ZodObject>(
  definition: ToolDefinition<Input, Output>,
): AgentTool<Output> {
  const { run, sandboxInput, ...description } = definition
  const inputSchema = definition.inputSchema.extend({ sandbox: sandboxInput ?? sandboxOrMain })
  return {
    ...description,
    inputSchema,
    call: async (session, given, call = {}) => {
      const { sandbox, ...input } = validate(inputSchema, given, definition.name) as { sandbox?: string }
      const sandboxName = sandbox ?? MAIN
      return run(session.at(sandboxName), input as z.output<Input>, { ...call, session, sandboxName })
    },
  }
}

import { BaseChatModel } from '@langchain/core/language_models/chat_models'
import { AIMessage, type BaseMessage } from '@langchain/core/messages'
import type { ChatResult } from '@langchain/core/outputs'

/** One turn of the script: a tool call made of what was said so far, or the final words. */
export type Turn = (messages: readonly BaseMessage[]) => { tool: string; args: Record<string, unknown> } | string

/** A chat model that plays a script of tool calls; everything around it is real. */
export class ScriptedModel extends BaseChatModel {
  readonly #turns: readonly Turn[]
  #next = 0

  constructor(turns: readonly Turn[]) {
    super({})
    this.#turns = turns
  }

  override _llmType(): string {
    return 'scripted'
  }

  /** The script knows the tools by name. */
  override bindTools(): this {
    return this
  }

  override _generate(messages: BaseMessage[]): Promise<ChatResult> {
    const turn = this.#turns[this.#next++]?.(messages) ?? 'the script has ended'
    const message =
      typeof turn === 'string'
        ? new AIMessage(turn)
        : new AIMessage({
            content: '',
            tool_calls: [{ id: `call-${this.#next}`, name: turn.tool, args: turn.args, type: 'tool_call' }],
          })
    return Promise.resolve({ generations: [{ text: '', message }] })
  }
}

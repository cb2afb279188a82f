import type { Sandbox } from '../sandbox/sandbox.js'
import { BackgroundCommands } from './background-commands.js'

/** One sandbox of an agent, with the background commands that the agent holds in it. */
export class ToolSandbox {
  readonly #open: () => Promise<Sandbox>
  #opening: Promise<Sandbox> | undefined
  #background: BackgroundCommands | undefined

  /** @param source a sandbox, or what makes one: called when it is first needed, and again only if it failed */
  constructor(source: Sandbox | (() => Promise<Sandbox>)) {
    this.#opening = typeof source === 'function' ? undefined : Promise.resolve(source)
    this.#open = typeof source === 'function' ? source : () => Promise.resolve(source)
  }

  /** The sandbox. @throws what `Sandbox.create` or `Sandbox.connect` throws */
  async sandbox(): Promise<Sandbox> {
    this.#opening ??= this.#open()
    try {
      return await this.#opening
    } catch (error) {
      this.#opening = undefined
      throw error
    }
  }

  /** The background commands. */
  async background(): Promise<BackgroundCommands> {
    const sandbox = await this.sandbox()
    this.#background ??= new BackgroundCommands(sandbox.commands)
    return this.#background
  }

  /** The sandbox if anybody needed it so far, also while it is being made. */
  async opened(): Promise<Sandbox | undefined> {
    return this.#opening?.catch(() => undefined)
  }
}

import type { Sandbox } from '../sandbox/sandbox.js'
import { BackgroundCommands } from './background-commands.js'

/** Where a session's sandbox comes from. */
export interface ToolSessionInit {
  /** Called at the first tool call that needs it, and again only if it failed. */
  readonly open: () => Promise<Sandbox>
  /** What `close()` does with the sandbox: end it, leave it running, or not touch it at all. */
  readonly atClose: 'kill' | 'disconnect' | 'keep'
}

/** One agent's use of one sandbox: made lazily, with the background commands that the agent holds. */
export class ToolSession {
  readonly #init: ToolSessionInit
  #opening: Promise<Sandbox> | undefined
  #background: BackgroundCommands | undefined

  constructor(init: ToolSessionInit) {
    this.#init = init
  }

  /** The sandbox. @throws what `Sandbox.create` or `Sandbox.connect` throws */
  async sandbox(): Promise<Sandbox> {
    this.#opening ??= this.#init.open()
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

  /** Ends the session. Idempotent. */
  async close(): Promise<void> {
    const opening = this.#opening
    if (opening === undefined || this.#init.atClose === 'keep') return
    const sandbox = await opening.catch(() => undefined)
    if (this.#init.atClose === 'kill') await sandbox?.kill()
    else sandbox?.disconnect()
  }
}

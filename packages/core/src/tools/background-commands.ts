import { DeltaboxError, isDeltaboxError } from '../errors/deltabox-error.js'
import type { CommandHandle } from '../commands/command-handle.js'
import type { Commands } from '../commands/commands.js'
import type { BackgroundRunOptions } from '../commands/options.js'

/** Output that is kept for the next read; older output is dropped, since an agent wants the newest. */
const MAX_UNREAD_CHARS = 1 << 20
/** Output has settled when nothing came for this long: about the pace of a prompt. */
const QUIET_MS = 150

/** What a background command printed since the last read. */
export interface BackgroundOutput {
  readonly stdout: string
  readonly stderr: string
  /** Whether something in between was dropped. */
  readonly truncated: boolean
}

class UnreadOutput {
  #stdout = ''
  #stderr = ''
  #truncated = false
  #lastAtMs = 0
  onArrival: (() => void) | undefined

  readonly addStdout = (text: string): void => {
    this.#stdout = this.#bound(this.#stdout + text)
  }

  readonly addStderr = (text: string): void => {
    this.#stderr = this.#bound(this.#stderr + text)
  }

  /** When the last output came, on the monotonic clock; 0 when all was read. */
  get lastAtMs(): number {
    return this.#lastAtMs
  }

  take(): BackgroundOutput {
    const output = { stdout: this.#stdout, stderr: this.#stderr, truncated: this.#truncated }
    this.#stdout = ''
    this.#stderr = ''
    this.#truncated = false
    this.#lastAtMs = 0
    return output
  }

  #bound(text: string): string {
    this.#lastAtMs = performance.now()
    this.onArrival?.()
    if (text.length <= MAX_UNREAD_CHARS) return text
    this.#truncated = true
    return text.slice(-MAX_UNREAD_CHARS)
  }
}

/** A background command that an agent holds. */
export interface HeldCommand {
  readonly handle: CommandHandle
  readonly unread: UnreadOutput
}

/** The background commands of one agent, each with the output that the agent has not seen yet. */
export class BackgroundCommands {
  readonly #commands: Commands
  readonly #held = new Map<number, HeldCommand>()

  constructor(commands: Commands) {
    this.#commands = commands
  }

  /** Starts one. */
  async start(command: string, options: Omit<BackgroundRunOptions, 'background'>): Promise<HeldCommand> {
    const unread = new UnreadOutput()
    const handle = await this.#commands.run(command, {
      ...options,
      background: true,
      maxOutputBytes: 0,
      onStdout: unread.addStdout,
      onStderr: unread.addStderr,
    })
    return this.#hold({ handle, unread })
  }

  /** One that was started before, by this agent or by someone else. @throws COMMAND_NOT_FOUND */
  async get(commandId: number): Promise<HeldCommand> {
    const held = this.#held.get(commandId)
    if (held !== undefined) return held
    const unread = new UnreadOutput()
    const handle = await this.#connect(commandId, unread)
    return this.#hold({ handle, unread })
  }

  /** Waits until new output has come and settled, the command has ended, or `waitMs` have passed. */
  async read({ handle, unread }: HeldCommand, waitMs: number, signal?: AbortSignal): Promise<BackgroundOutput> {
    const endMs = performance.now() + waitMs
    let ended = false
    const exit = handle.wait().then(
      () => (ended = true),
      () => (ended = true),
    )
    while (!ended && signal?.aborted !== true) {
      const nowMs = performance.now()
      const settledAtMs = unread.lastAtMs === 0 ? Infinity : unread.lastAtMs + QUIET_MS
      const untilMs = Math.min(endMs, settledAtMs)
      if (untilMs <= nowMs) break
      await this.#nextChange(unread, exit, untilMs - nowMs, signal)
    }
    unread.onArrival = undefined
    return unread.take()
  }

  async #connect(commandId: number, { addStdout, addStderr }: UnreadOutput): Promise<CommandHandle> {
    try {
      return await this.#commands.connect(commandId, {
        maxOutputBytes: 0,
        onStdout: addStdout,
        onStderr: addStderr,
      })
    } catch (error) {
      if (!isDeltaboxError(error, 'COMMAND_NOT_FOUND')) throw error
      // An agent has no call that lists commands.
      throw new DeltaboxError('COMMAND_NOT_FOUND', {
        message: error.message,
        nextStep: 'use a commandId that exec returned, or start the command anew with background: true',
        cause: error,
      })
    }
  }

  #hold(held: HeldCommand): HeldCommand {
    this.#held.set(held.handle.commandId, held)
    return held
  }

  /** Resolves when output comes, the command ends, the signal fires, or the time has passed. */
  async #nextChange(
    unread: UnreadOutput,
    exit: Promise<unknown>,
    waitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let wake = (): void => undefined
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      wake = resolve
      timer = setTimeout(wake, waitMs)
      unread.onArrival = wake
      signal?.addEventListener('abort', wake, { once: true })
      void exit.then(wake)
    })
    clearTimeout(timer)
    signal?.removeEventListener('abort', wake)
  }
}

import { DeltaboxError } from '../errors/deltabox-error.js'
import { abortable } from '../errors/abort.js'
import { toCommandLimit } from '../limits/options.js'
import type { EngineClient } from '../protocol/engine-client.js'
import { signalName } from '../protocol/failure.js'
import type { CommandExited, CommandOutput } from '../protocol/gen/deltabox_pb.js'
import { killCommand, sendStdin } from '../commands/command-handle.js'
import { resizeTerminal } from './resize.js'
import type { PtyResult, PtySize } from './options.js'

/** What a handle is made of. */
export interface PtyHandleInit {
  readonly commandId: bigint
  readonly pid: number
  readonly onData?: ((data: Uint8Array) => void) | undefined
}

/**
 * A command on a terminal. Its master end is the engine's: the command lives on when this handle, or the process that
 * holds it, goes away, and can be connected to again.
 */
export class PtyHandle {
  /** Names the command in all calls of `commands`; never used twice in a sandbox. */
  readonly commandId: number
  /** Inside the sandbox. */
  readonly pid: number
  readonly #client: EngineClient
  readonly #ended: Promise<CommandExited>
  readonly #onData: ((data: Uint8Array) => void) | undefined
  #seenBytes = 0
  #exit: CommandExited | undefined

  /** @internal Subscribes at once: no output after the reply that it is made of is missed. */
  constructor(client: EngineClient, init: PtyHandleInit) {
    this.#client = client
    this.#onData = init.onData
    this.commandId = Number(init.commandId)
    this.pid = init.pid
    this.#ended = new Promise((resolve, reject) => {
      const unsubscribe = client.subscribe(init.commandId, {
        onOutput: (output) => this.#collect(output),
        onExit: (exit) => {
          unsubscribe()
          this.#exit = exit
          resolve(exit)
        },
        onLost: reject,
      })
    })
    // Awaited only by wait().
    this.#ended.catch(() => undefined)
  }

  /** Whether no end of it was seen yet. */
  get isRunning(): boolean {
    return this.#exit === undefined
  }

  /**
   * Types into the terminal. Ctrl-C is the byte 0x03, the end of input 0x04.
   * @throws STALE_GENERATION (a rollback ended the command); BUSY (4 MiB wait for it); INVALID_ARGUMENT (it has ended)
   */
  async sendInput(data: string | Uint8Array): Promise<void> {
    await sendStdin(this.#client, { commandId: this.commandId }, data)
  }

  /** Tells the size of the window; the foreground job gets SIGWINCH. @throws INVALID_ARGUMENT, STALE_GENERATION */
  async resize(size: PtySize): Promise<void> {
    await resizeTerminal(this.#client, { commandId: this.commandId }, size)
  }

  /** Sends a signal to the command, and SIGKILL to all of its session. @default SIGKILL */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await killCommand(this.#client, { commandId: this.commandId }, signal)
  }

  /**
   * Waits for its end.
   * @throws ROLLED_BACK when a rollback ended it; ENGINE_LOST; ABORTED (only the waiting ends)
   */
  async wait(options: { readonly signal?: AbortSignal } = {}): Promise<PtyResult> {
    const release = this.#client.hold()
    try {
      const exit = await abortable(this.#ended, options.signal, 'waiting for the command')
      const signal = signalName(exit.signal)
      const exitCode = signal !== null || exit.exitCode < 0 ? null : exit.exitCode
      const result = { exitCode, signal, limit: toCommandLimit(exit.limit) }
      if (!exit.rolledBack) return result
      throw new DeltaboxError('ROLLED_BACK', {
        message: 'a rollback to a checkpoint at which this command did not run ended it',
        nextStep: 'start it again if it is still wanted',
        data: { ...result, rolledBack: true },
      })
    } finally {
      release()
    }
  }

  #collect({ data, endOffset }: CommandOutput): void {
    // Another handle of this connection may have asked for the spool again: only what is new counts.
    const newBytes = Math.min(data.length, Number(endOffset) - this.#seenBytes)
    if (newBytes <= 0) return
    this.#seenBytes = Number(endOffset)
    this.#onData?.(data.subarray(data.length - newBytes))
  }
}

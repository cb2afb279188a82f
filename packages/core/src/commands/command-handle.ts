import { constants } from 'node:os'
import { abortable } from '../errors/abort.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import type { EngineClient } from '../protocol/engine-client.js'
import type { CommandExited, CommandOutput } from '../protocol/gen/deltabox_pb.js'
import { BoundedText } from './bounded-text.js'
import type { ByteSink, CommandResult } from './options.js'
import { rolledBackError, toResult, type CommandOutputs } from './result.js'

/** Stdin is sent in pieces well below the bound of a frame, so that other requests pass between them. */
const STDIN_CHUNK_BYTES = 256 << 10
const STDERR_STREAM = 2

/** What a handle is made of. */
export interface CommandHandleInit {
  readonly commandId: bigint
  readonly pid: number
  readonly maxOutputBytes: number
  readonly onStdout?: ((text: string) => void) | undefined
  readonly onStderr?: ((text: string) => void) | undefined
  readonly onStdoutBytes?: ByteSink | undefined
  readonly onStderrBytes?: ByteSink | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * A background command. Its output since its start (as far as the engine kept it) is collected here. A handle holds
 * no resource of the command: letting go of it leaves the command running.
 */
export class CommandHandle {
  /** Names the command in all calls of `commands`; never used twice in a sandbox. */
  readonly commandId: number
  /** Inside the sandbox. */
  readonly pid: number
  readonly #client: EngineClient
  readonly #outputs: CommandOutputs
  readonly #ended: Promise<CommandExited>
  #exit: CommandExited | undefined
  #droppedBytes = 0
  readonly #seenBytes = { stdout: 0, stderr: 0 }

  private constructor(client: EngineClient, init: CommandHandleInit) {
    this.#client = client
    this.commandId = Number(init.commandId)
    this.pid = init.pid
    this.#outputs = {
      stdout: new BoundedText(init.maxOutputBytes, init.onStdout, init.onStdoutBytes),
      stderr: new BoundedText(init.maxOutputBytes, init.onStderr, init.onStderrBytes),
    }
    this.#ended = new Promise((resolve, reject) => {
      const unsubscribe = client.subscribe(init.commandId, {
        onOutput: (output) => this.#collect(output),
        onExit: (exit) => {
          unsubscribe()
          this.#exit = exit
          this.#outputs.stdout.end()
          this.#outputs.stderr.end()
          resolve(exit)
        },
        onLost: reject,
      })
    })
    // Awaited only by wait().
    this.#ended.catch(() => undefined)
  }

  /** @internal For the client that just started it, while accepting the reply: the engine follows with all output. */
  static started(client: EngineClient, init: CommandHandleInit): CommandHandle {
    return new CommandHandle(client, init)
  }

  /** @internal Subscribes first, then asks for the spool: no output is missed. */
  static async attach(client: EngineClient, init: CommandHandleInit): Promise<CommandHandle> {
    const handle = new CommandHandle(client, init)
    await client.request(
      { case: 'attachCommand', value: { commandId: init.commandId } },
      { expect: 'empty', accept: () => undefined, signal: init.signal },
    )
    return handle
  }

  /** What it printed so far, up to `maxOutputBytes`. */
  get stdout(): string {
    return this.#outputs.stdout.text
  }

  get stderr(): string {
    return this.#outputs.stderr.text
  }

  /** Output that the engine no longer had when this handle asked for it. */
  get droppedBytes(): number {
    return this.#droppedBytes
  }

  /** Whether no end of it was seen yet. */
  get isRunning(): boolean {
    return this.#exit === undefined
  }

  /**
   * Waits for its end.
   * @throws ROLLED_BACK when a rollback ended it; ENGINE_LOST; ABORTED (only the waiting ends)
   */
  async wait(options: { readonly signal?: AbortSignal } = {}): Promise<CommandResult> {
    const release = this.#client.hold()
    try {
      const result = toResult(
        this.#outputs,
        await abortable(this.#ended, options.signal, 'waiting for the command'),
        false,
      )
      if (result.rolledBack) throw rolledBackError(result)
      return result
    } finally {
      release()
    }
  }

  /** Sends a signal to its process group. @default SIGKILL @throws COMMAND_NOT_FOUND, INVALID_ARGUMENT */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await killCommand(this.#client, { commandId: this.commandId }, signal)
  }

  /** Writes to its stdin. @throws COMMAND_NOT_FOUND, INVALID_ARGUMENT (stdin is not open), STALE_GENERATION (a rollback ended it), BUSY (4 MiB
   * wait for it; the pieces before were taken) */
  async sendStdin(data: string | Uint8Array): Promise<void> {
    await sendStdin(this.#client, { commandId: this.commandId }, data)
  }

  /** Ends its stdin. @throws COMMAND_NOT_FOUND */
  async closeStdin(): Promise<void> {
    await closeStdin(this.#client, this.commandId)
  }

  #collect({ stream, data, droppedBytes, endOffset }: CommandOutput): void {
    const name = stream === STDERR_STREAM ? 'stderr' : 'stdout'
    // Another handle of this connection may have asked for the spool again: only what is new counts.
    const newBytes = endOffset === 0n ? data.length : Math.min(data.length, Number(endOffset) - this.#seenBytes[name])
    if (newBytes <= 0) return
    this.#seenBytes[name] = Number(endOffset)
    const output = this.#outputs[name]
    if (droppedBytes > 0n && newBytes === data.length) {
      this.#droppedBytes += Number(droppedBytes)
      output.markTruncated()
    }
    void output.write(data.subarray(data.length - newBytes))
  }
}

/** A command by its id, or a running one by its pid. */
export type CommandName = { readonly commandId: number } | { readonly pid: number }

/** As the wire has it. */
export function toWireName(name: CommandName): { commandId: bigint; pid: number } {
  return 'pid' in name ? { commandId: 0n, pid: name.pid } : { commandId: BigInt(name.commandId), pid: 0 }
}

/** @throws COMMAND_NOT_FOUND, INVALID_ARGUMENT */
export async function killCommand(client: EngineClient, name: CommandName, signal: NodeJS.Signals): Promise<void> {
  const number = constants.signals[signal]
  if (number === undefined) {
    throw new DeltaboxError('INVALID_ARGUMENT', {
      message: `${String(signal)} is not a signal`,
      nextStep: 'name a signal like SIGTERM',
    })
  }
  await client.request(
    { case: 'killCommand', value: { ...toWireName(name), signal: number } },
    { expect: 'empty', accept: () => undefined },
  )
}

/** @throws COMMAND_NOT_FOUND, INVALID_ARGUMENT, STALE_GENERATION, BUSY */
export async function sendStdin(client: EngineClient, name: CommandName, data: string | Uint8Array): Promise<void> {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'utf8') : data
  for (let start = 0; start < bytes.length; start += STDIN_CHUNK_BYTES) {
    const piece = bytes.subarray(start, start + STDIN_CHUNK_BYTES)
    await client.request(
      { case: 'stdin', value: { ...toWireName(name), data: piece } },
      { expect: 'empty', accept: () => undefined },
    )
  }
}

/** @throws COMMAND_NOT_FOUND */
export async function closeStdin(client: EngineClient, commandId: number): Promise<void> {
  await client.request(
    { case: 'stdin', value: { commandId: BigInt(commandId), close: true } },
    { expect: 'empty', accept: () => undefined },
  )
}

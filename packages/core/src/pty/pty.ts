import { z } from 'zod'
import { killCommand, sendStdin } from '../commands/command-handle.js'
import { toEnvironmentStrings } from '../commands/environment.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { validate } from '../errors/validate.js'
import type { EngineClient } from '../protocol/engine-client.js'
import {
  ptyConnectOptionsSchema,
  ptyOptionsSchema,
  type PtyConnectOptions,
  type PtyOptions,
  type PtySize,
} from './options.js'
import { PtyHandle } from './pty-handle.js'
import { resizeTerminal } from './resize.js'

const pidSchema = z.int().min(1, 'is not a pid')

/** Commands on a terminal. Their pids are those inside the sandbox. */
export class Pty {
  readonly #client: EngineClient
  readonly #workspaceMount: string

  /** @internal */
  constructor(client: EngineClient, workspaceMount: string) {
    this.#client = client
    this.#workspaceMount = workspaceMount
  }

  /**
   * Starts a command on a terminal of its own.
   *
   * @example
   * const shell = await sandbox.pty.create({ cols: 80, rows: 24, onData: (data) => process.stdout.write(data) })
   * await shell.sendInput('ls\n')
   * @throws INVALID_ARGUMENT; COMMAND_NOT_FOUND (no such program); NOT_FOUND (no such cwd or user); UNSUPPORTED (the
   * sandbox has no ids for that user); ABORTED; ENGINE_LOST
   */
  async create(options: PtyOptions = {}): Promise<PtyHandle> {
    const checked = validate(ptyOptionsSchema, options, 'options')
    const { cols, rows, onData, command = ['/bin/bash'], cwd = this.#workspaceMount, envs = {}, user, label } = checked
    return this.#client.request(
      {
        case: 'run',
        value: {
          argv: [...command],
          env: toEnvironmentStrings({ TERM: 'xterm-256color', ...envs }),
          cwd,
          background: true,
          label: label ?? '',
          user: String(user ?? ''),
          terminal: { cols, rows },
        },
      },
      {
        expect: 'run',
        accept: ({ value: { commandId, pid } }) => new PtyHandle(this.#client, { commandId, pid, onData }),
        signal: checked.signal,
        expectedGeneration: checked.expectedGeneration,
        idempotencyKey: checked.idempotencyKey,
        // Aborted while the engine was starting it: nobody knows of it.
        onLate: (late) => void late.kill().catch(() => undefined),
      },
    )
  }

  /**
   * A handle on a command that this or another client started; replays what the engine kept of its output (1 MiB).
   * @throws COMMAND_NOT_FOUND
   */
  async connect(pid: number, options: PtyConnectOptions = {}): Promise<PtyHandle> {
    validate(pidSchema, pid, 'pid')
    const { onData, signal } = validate(ptyConnectOptionsSchema, options, 'options')
    const commandId = await this.#client.request(
      { case: 'listCommands', value: {} },
      {
        expect: 'commands',
        accept: ({ value }) =>
          value.commands.find((command) => command.pid === pid && command.running && command.terminal)?.commandId,
        signal,
      },
    )
    if (commandId === undefined) {
      throw new DeltaboxError('COMMAND_NOT_FOUND', {
        message: `no running command on a terminal has pid ${pid}`,
        nextStep: 'list the commands to see their pids',
      })
    }
    // Subscribes first, then asks for the spool: no output is missed.
    const handle = new PtyHandle(this.#client, { commandId, pid, onData })
    await this.#client.request(
      { case: 'attachCommand', value: { commandId } },
      { expect: 'empty', accept: () => undefined, signal },
    )
    return handle
  }

  /** As {@link PtyHandle.sendInput}. @throws COMMAND_NOT_FOUND, BUSY */
  async sendInput(pid: number, data: string | Uint8Array): Promise<void> {
    await sendStdin(this.#client, { pid: validate(pidSchema, pid, 'pid') }, data)
  }

  /** As {@link PtyHandle.resize}. @throws COMMAND_NOT_FOUND, INVALID_ARGUMENT */
  async resize(pid: number, size: PtySize): Promise<void> {
    await resizeTerminal(this.#client, { pid: validate(pidSchema, pid, 'pid') }, size)
  }

  /** As {@link PtyHandle.kill}. @default SIGKILL @throws COMMAND_NOT_FOUND */
  async kill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await killCommand(this.#client, { pid: validate(pidSchema, pid, 'pid') }, signal)
  }
}

import { z } from 'zod'
import { toCommandLimit } from '../limits/options.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { validate } from '../errors/validate.js'
import type { EngineClient } from '../protocol/engine-client.js'
import { signalName } from '../protocol/failure.js'
import { CommandHandle, closeStdin, killCommand, sendStdin, type CommandHandleInit } from './command-handle.js'
import { toEnvironmentStrings } from './environment.js'
import { runForeground, type StartFields } from './foreground.js'
import {
  backgroundOptionsSchema,
  commandSchema,
  DEFAULT_MAX_OUTPUT_BYTES,
  foregroundOptionsSchema,
  type BackgroundRunOptions,
  type CommandInfo,
  type CommandResult,
  type CommonRunOptions,
  type ForegroundRunOptions,
} from './options.js'

const commandIdSchema = z.int().min(1, 'is not a command id')

/** The commands of a sandbox. */
export class Commands {
  readonly #client: EngineClient
  readonly #workspaceMount: string
  readonly #outputLimitBytes: number

  /** @internal */
  constructor(client: EngineClient, workspaceMount: string, outputLimitBytes = Infinity) {
    this.#client = client
    this.#workspaceMount = workspaceMount
    this.#outputLimitBytes = outputLimitBytes
  }

  /**
   * Runs a command. A string is run by `/bin/bash -c`, an array as it is. Waits for its end, or with
   * `background: true` returns a handle once it was started. A non-zero exit code does not throw.
   * @throws INVALID_ARGUMENT; COMMAND_NOT_FOUND (no such program); NOT_FOUND (no such cwd or user); UNSUPPORTED (the
   * sandbox has no ids for that user); TIMEOUT, ABORTED and
   * ROLLED_BACK with the {@link CommandResult} so far as `data`; ENGINE_LOST
   */
  run(command: string | readonly string[], options: BackgroundRunOptions): Promise<CommandHandle>
  run(command: string | readonly string[], options?: ForegroundRunOptions): Promise<CommandResult>
  async run(
    command: string | readonly string[],
    options: ForegroundRunOptions | BackgroundRunOptions = {},
  ): Promise<CommandResult | CommandHandle> {
    const argv = toArgv(command)
    if (options.background === true) {
      validate(backgroundOptionsSchema, options, 'options')
      return this.#startBackground(argv, options)
    }
    validate(foregroundOptionsSchema, options, 'options')
    return runForeground(this.#client, this.#startFields(argv, options), options, this.#outputLimitBytes)
  }

  /** The commands of this sandbox, those that ended included, oldest first. */
  async list(options: { readonly signal?: AbortSignal } = {}): Promise<CommandInfo[]> {
    return this.#client.request(
      { case: 'listCommands', value: {} },
      {
        expect: 'commands',
        accept: ({ value }) =>
          value.commands.map((command) => ({
            commandId: Number(command.commandId),
            pid: command.pid,
            background: command.background,
            label: command.label,
            argv: [...command.argv],
            running: command.running,
            exitCode: command.running || command.signal !== 0 || command.exitCode < 0 ? null : command.exitCode,
            signal: command.running ? null : signalName(command.signal),
            rolledBack: command.rolledBack,
            limit: toCommandLimit(command.limit),
            terminal: command.terminal,
            user: command.user === '' ? 'root' : command.user,
          })),
        signal: options.signal,
      },
    )
  }

  /**
   * Sends a signal to a command's process group.
   * @param signal - @default SIGKILL
   * @throws COMMAND_NOT_FOUND, INVALID_ARGUMENT
   */
  async kill(commandId: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    validate(commandIdSchema, commandId, 'commandId')
    await killCommand(this.#client, { commandId }, signal)
  }

  /** Writes to a background command's stdin. @throws COMMAND_NOT_FOUND, INVALID_ARGUMENT (stdin is not open) */
  async sendStdin(commandId: number, data: string | Uint8Array): Promise<void> {
    validate(commandIdSchema, commandId, 'commandId')
    await sendStdin(this.#client, { commandId }, data)
  }

  /** Ends a background command's stdin. @throws COMMAND_NOT_FOUND */
  async closeStdin(commandId: number): Promise<void> {
    validate(commandIdSchema, commandId, 'commandId')
    await closeStdin(this.#client, commandId)
  }

  /**
   * A handle on a background command that this or another client started; replays the output that the engine kept.
   * @throws COMMAND_NOT_FOUND; INVALID_ARGUMENT (a foreground command)
   */
  async connect(
    commandId: number,
    options: Pick<
      CommonRunOptions,
      'maxOutputBytes' | 'onStdout' | 'onStderr' | 'onStdoutBytes' | 'onStderrBytes' | 'signal'
    > = {},
  ): Promise<CommandHandle> {
    validate(commandIdSchema, commandId, 'commandId')
    const command = (await this.list(options)).find((candidate) => candidate.commandId === commandId)
    if (command === undefined) {
      throw new DeltaboxError('COMMAND_NOT_FOUND', {
        message: `the sandbox has no command ${commandId}`,
        nextStep: 'list the commands to see their ids',
      })
    }
    return CommandHandle.attach(this.#client, toHandleInit(BigInt(commandId), command.pid, options))
  }

  async #startBackground(argv: string[], options: BackgroundRunOptions): Promise<CommandHandle> {
    const { stdin = true, label = '', signal, expectedGeneration, idempotencyKey } = options
    return this.#client.request(
      { case: 'run', value: { ...this.#startFields(argv, options), background: true, openStdin: stdin, label } },
      {
        expect: 'run',
        accept: ({ value: { commandId, pid } }) =>
          CommandHandle.started(this.#client, toHandleInit(commandId, pid, options)),
        signal,
        expectedGeneration,
        idempotencyKey,
        // Aborted while the engine was starting it: nobody knows of it.
        onLate: (late) => void late.kill().catch(() => undefined),
      },
    )
  }

  #startFields(argv: string[], { envs = {}, cwd = this.#workspaceMount, user }: CommonRunOptions): StartFields {
    return { argv, env: toEnvironmentStrings(envs), cwd, user: String(user ?? '') }
  }
}

function toHandleInit(commandId: bigint, pid: number, options: CommonRunOptions): CommandHandleInit {
  const {
    maxOutputBytes = DEFAULT_MAX_OUTPUT_BYTES,
    onStdout,
    onStderr,
    onStdoutBytes,
    onStderrBytes,
    signal,
  } = options
  return { commandId, pid, maxOutputBytes, onStdout, onStderr, onStdoutBytes, onStderrBytes, signal }
}

function toArgv(command: string | readonly string[]): string[] {
  const checked = validate(commandSchema, command, 'command')
  return typeof checked === 'string' ? ['/bin/bash', '-c', checked] : checked
}

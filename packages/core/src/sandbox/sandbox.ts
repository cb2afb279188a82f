import type { CheckpointResult, RollbackResult } from '../checkpoints/checkpoint.js'
import { toCheckpoint, toRollbackResult } from '../checkpoints/from-wire.js'
import type { CheckpointList } from '../checkpoints/tree.js'
import { Commands } from '../commands/commands.js'
import { validate } from '../errors/validate.js'
import { Files } from '../files/files.js'
import { Ports } from '../ports/ports.js'
import type { EngineClient } from '../protocol/engine-client.js'
import { Pty } from '../pty/pty.js'
import { removeSandbox } from '../state/remove-sandbox.js'
import { connectSandbox } from './connect.js'
import { createSandbox, type ConnectedSandbox } from './create.js'
import { forkSandbox, type ForkOptions, type ForkResult } from './fork.js'
import { requestInfo, requestMetrics } from './info.js'
import { ensureEngineGone, killSandbox, requestKill } from './kill.js'
import { listSandboxes } from './list.js'
import {
  checkpointOptionsSchema,
  rollbackOptionsSchema,
  type CheckpointOptions,
  type CreateSandboxOptions,
  type RollbackOptions,
  type SandboxInfo,
  type SandboxListEntry,
  type SandboxMetrics,
} from './options.js'
import { CheckpointTargets, type CheckpointTarget } from './targets.js'

interface Cancellable {
  readonly signal?: AbortSignal
}

/**
 * A sandbox: files and live processes that are checkpointed and rolled back as one pair.
 *
 * @example
 * await using sandbox = await Sandbox.create({ workspace: '.' })
 * const before = await sandbox.checkpoint({ name: 'before' })
 * await sandbox.commands.run('rm -rf src')
 * await sandbox.rollback(before)
 */
export class Sandbox implements AsyncDisposable {
  /** `sbx_` and 12 characters; the same through all rollbacks. */
  readonly id: string
  readonly workspaceMount: string
  readonly commands: Commands
  readonly files: Files
  readonly pty: Pty
  readonly ports: Ports
  readonly #client: EngineClient
  readonly #targets: CheckpointTargets
  #killed: Promise<void> | undefined

  private constructor({ client, info }: ConnectedSandbox, inherited: string | null | undefined) {
    this.#client = client
    this.#targets = new CheckpointTargets(info.id, inherited)
    this.id = info.id
    this.workspaceMount = info.workspaceMount
    this.commands = new Commands(client, info.workspaceMount, info.limits.outputBytes)
    this.files = new Files(client, info.workspaceMount)
    this.pty = new Pty(client, info.workspaceMount)
    this.ports = new Ports(client)
  }

  /**
   * Makes a sandbox. It lives until `kill()`, its idle time-out, or `await using` ends.
   * @throws INVALID_ARGUMENT; NOT_FOUND or NOT_A_DIRECTORY (the workspace); PERMISSION_DENIED; UNSUPPORTED;
   * UNSUPPORTED_KERNEL; UNSUPPORTED_PLATFORM; NO_SPACE; ABORTED. Nothing is left behind.
   */
  static async create(options: CreateSandboxOptions = {}): Promise<Sandbox> {
    return new Sandbox(await createSandbox(options), null)
  }

  /** Connects to a sandbox that this or another process made. @throws SANDBOX_NOT_FOUND, SANDBOX_DEAD, TIMEOUT */
  static async connect(id: string, options: Cancellable = {}): Promise<Sandbox> {
    return new Sandbox(await connectSandbox(id, options.signal), undefined)
  }

  /** All sandboxes in the state directory, oldest first. */
  static list(): Promise<SandboxListEntry[]> {
    return listSandboxes()
  }

  /**
   * Ends a sandbox, running or dead, and removes all of it.
   * @returns false when there was none.
   * @throws INVALID_ARGUMENT, TIMEOUT
   */
  static kill(id: string): Promise<boolean> {
    return killSandbox(id)
  }

  /**
   * Keeps the state of the files and of all processes, as one pair.
   * @throws BUSY (a task could not be stopped in time); UNSUPPORTED; STRICT; ALREADY_EXISTS (the name); NO_SPACE.
   * Then there is no checkpoint.
   */
  async checkpoint(options: CheckpointOptions = {}): Promise<CheckpointResult> {
    const checked = validate(checkpointOptionsSchema, options, 'options')
    const {
      name = '',
      metadata = {},
      strict = false,
      pinned = false,
      signal,
      expectedGeneration,
      idempotencyKey,
    } = checked
    const startMs = performance.now()
    return this.#client.request(
      { case: 'checkpoint', value: { name, metadata, strict, pinned } },
      {
        expect: 'checkpoint',
        accept: ({ value }) => this.#targets.own({ ...toCheckpoint(value), callMs: performance.now() - startMs }),
        signal,
        expectedGeneration,
        idempotencyKey,
      },
    )
  }

  /**
   * Returns files and processes, in place, to a checkpoint: by object, id or name. A process that can't be captured
   * is ended for it (`notRestored` tells: the safety checkpoint lacks it), unless `strict` asks for the state before.
   * @throws CHECKPOINT_NOT_FOUND; INVALID_ARGUMENT (an object of another sandbox); DEAD_PROCESS (a process of the checkpoint has ended, and nobody is there who could make it again); BUSY; STRICT;
   * UNSUPPORTED. Then nothing changed.
   */
  async rollback(target: CheckpointTarget, options: RollbackOptions = {}): Promise<RollbackResult> {
    const wanted = this.#targets.idOf(target)
    const checked = validate(rollbackOptionsSchema, options, 'options')
    const { redo = true, strict = false, signal, expectedGeneration, idempotencyKey } = checked
    const startMs = performance.now()
    return this.#client.request(
      {
        case: 'rollback',
        value: { target: wanted, noRedo: !redo, strict },
      },
      {
        expect: 'rollback',
        accept: ({ value }) => toRollbackResult(value, performance.now() - startMs),
        signal,
        expectedGeneration,
        idempotencyKey,
      },
    )
  }

  /**
   * Makes sandboxes of their own from a checkpoint: files and live processes, which keep their pids and go on
   * independently of each other and of this one. Files are shared until somebody writes them. Commands that run at the
   * checkpoint run in each fork under the same id (`commands.connect`). This sandbox stays as it is; it can be killed
   * before its forks.
   * @throws CHECKPOINT_NOT_FOUND; what `checkpoint()` throws; the first failure, when not one fork could be made
   */
  async fork(options: ForkOptions = {}): Promise<ForkResult> {
    const takeCheckpoint = async (signal: AbortSignal | undefined) =>
      (await this.checkpoint(signal === undefined ? {} : { signal })).id
    const asSandbox = (connected: ConnectedSandbox, inherited: string) => new Sandbox(connected, inherited)
    const isObject = typeof options.from === 'object' && options.from !== null
    const named = isObject ? { ...options, from: this.#targets.idOf(options.from) } : options
    const { checkpoint, members } = await forkSandbox(this.#client, named, takeCheckpoint, asSandbox)
    const sandboxes: Sandbox[] = []
    const failures: unknown[] = []
    for (const member of members) {
      if (member.status === 'fulfilled') sandboxes.push(member.value)
      else failures.push(member.reason)
    }
    if (sandboxes.length === 0) throw failures[0]
    return { checkpoint, sandboxes, failures }
  }

  /**
   * Counts the rollbacks, whoever asked for them, as far as this connection has heard. Calls that take
   * `expectedGeneration` are refused with STALE_GENERATION when another rollback came first.
   */
  get generation(): number {
    return Number(this.#client.generation)
  }

  /**
   * Forgets a checkpoint and frees what only it held. Its children become its parent's; the live state stays as it is.
   * @throws CHECKPOINT_NOT_FOUND
   */
  async deleteCheckpoint(target: CheckpointTarget, options: Cancellable = {}): Promise<void> {
    await this.#client.request(
      { case: 'deleteCheckpoint', value: { target: this.#targets.idOf(target) } },
      { expect: 'empty', accept: () => undefined, signal: options.signal },
    )
  }

  /**
   * Keeps a checkpoint in memory, where it is read back to, and from being dropped by the retention; with false no
   * longer. A pin outlives the engine, after which the checkpoint is in memory from its next use on.
   * @throws CHECKPOINT_NOT_FOUND; DAMAGED, COLD_INCOMPATIBLE (it can't be read back)
   */
  async pin(target: CheckpointTarget, pinned = true, options: Cancellable = {}): Promise<void> {
    await this.#client.request(
      { case: 'pin', value: { target: this.#targets.idOf(target), pinned } },
      { expect: 'empty', accept: () => undefined, signal: options.signal },
    )
  }

  /** All checkpoints and the head. */
  async listCheckpoints(options: Cancellable = {}): Promise<CheckpointList> {
    return this.#client.request(
      { case: 'listCheckpoints', value: {} },
      {
        expect: 'checkpoints',
        accept: ({ value }) => ({
          checkpoints: value.checkpoints.map((checkpoint) => this.#targets.own(toCheckpoint(checkpoint))),
          head: value.head === '' ? null : value.head,
        }),
        signal: options.signal,
      },
    )
  }

  /** What the engine says of the sandbox. */
  async getInfo(options: Cancellable = {}): Promise<SandboxInfo> {
    return requestInfo(this.#client, options.signal)
  }

  /** What the sandbox and its engine use at the moment. It walks processes and layers: ask now and then. */
  async getMetrics(options: Cancellable = {}): Promise<SandboxMetrics> {
    return requestMetrics(this.#client, options.signal)
  }

  /** Whether its engine answers. Never throws. */
  async isRunning(): Promise<boolean> {
    try {
      await this.getInfo()
      return true
    } catch {
      return false
    }
  }

  /** Calls back after each rollback, whoever asked for it, until the returned function is called. */
  onRolledBack(listener: (event: { checkpoint: string; safetyCheckpoint: string | null }) => void): () => void {
    return this.#client.onRolledBack(({ checkpointId, safetyCheckpointId }) =>
      listener({
        checkpoint: checkpointId,
        safetyCheckpoint: safetyCheckpointId === '' ? null : safetyCheckpointId,
      }),
    )
  }

  /** Ends the connection and leaves the sandbox running; foreground commands of this connection end. Idempotent. */
  disconnect(): void {
    this.#client.close()
  }

  /** Ends the sandbox and removes all of it. Idempotent, and fine when the engine is gone already. @throws TIMEOUT */
  kill(): Promise<void> {
    this.#killed ??= this.#kill().catch((error: unknown) => {
      // A kill that failed can be tried again.
      this.#killed = undefined
      throw error
    })
    return this.#killed
  }

  async #kill(): Promise<void> {
    // After a disconnect only a new connection reaches the engine.
    if (this.#client.isOpen) await requestKill(this.#client)
    else await killSandbox(this.id)
    await ensureEngineGone(this.id)
    await removeSandbox(this.id)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }
}

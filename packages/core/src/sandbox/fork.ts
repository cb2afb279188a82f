import { join } from 'node:path'
import { z } from 'zod'
import { throwIfAborted } from '../errors/abort.js'
import { fromSystemError } from '../errors/convert.js'
import { validate } from '../errors/validate.js'
import { EngineClient } from '../protocol/engine-client.js'
import { native } from '../protocol/native.js'
import { addBorrower } from '../state/lending.js'
import { newSandboxId } from '../state/ids.js'
import { makeSandboxDir, readLogTail, sandboxDirPath, writeSandboxRecord } from '../state/sandbox-dir.js'
import { removeSandbox } from '../state/remove-sandbox.js'
import { withLog, type ConnectedSandbox } from './create.js'
import { CREATE_TIMEOUT_MS } from './engine-state.js'
import { requestInfo, toSandboxInfo } from './info.js'
import { requestKill } from './kill.js'
import type { Sandbox } from './sandbox.js'

const target = z.union([z.string().min(1, 'is empty').max(200), z.object({ id: z.string().min(1) })])

/** What is done in a fork while its processes stand still. `index` counts the forks of one call from 0. */
export type BeforeThaw = (fork: Sandbox, index: number) => unknown

/** Options of {@link Sandbox.fork}. */
export const forkOptionsSchema = z.strictObject({
  from: target.optional(),
  count: z.int().min(1).max(256).default(1),
  idleTimeoutMs: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  orphanTimeoutMs: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  metadata: z.record(z.string().min(1).max(200), z.string().max(4096)).default({}),
  beforeThaw: z.custom<BeforeThaw>((value) => typeof value === 'function', 'is not a function').optional(),
  signal: z.instanceof(AbortSignal).optional(),
})

/** How to fork a sandbox. */
export interface ForkOptions {
  /** The checkpoint that the forks begin from: object, id or name. @default a new one, of the state as it is */
  readonly from?: string | { readonly id: string }
  /** How many. @default 1 */
  readonly count?: number
  /** As of {@link CreateSandboxOptions}, of each fork. @default 0 */
  readonly idleTimeoutMs?: number
  /** As of {@link CreateSandboxOptions}, of each fork. @default 0 */
  readonly orphanTimeoutMs?: number
  /** Labels of the forks. @default {} */
  readonly metadata?: Readonly<Record<string, string>>
  /**
   * Called for each fork, side by side, before its processes go on, and waited for: to write files and run commands that
   * tell it apart from its siblings. Checkpoints and rollbacks are refused (BUSY) until then. When it throws, that fork
   * fails, and its processes never ran. @default none
   */
  readonly beforeThaw?: BeforeThaw
  /** Ends the waiting; forks that were begun are removed. */
  readonly signal?: AbortSignal
}

/** What {@link Sandbox.fork} made. */
export interface ForkResult {
  /** Id of the checkpoint, in this sandbox and in each fork, whose first checkpoint it is. */
  readonly checkpoint: string
  /** At least one. Each is to be killed by itself. */
  readonly sandboxes: readonly Sandbox[]
  /** Why others could not be made; nothing of them is left. */
  readonly failures: readonly unknown[]
}

/** A checkpoint that an engine has put on the disk for others. */
interface Lent {
  readonly checkpointId: string
  readonly lastLayer: bigint
}

type CheckedOptions = z.output<typeof forkOptionsSchema>

/** What became of each fork that was asked for. */
export type ForkOutcome = PromiseSettledResult<Sandbox>

/**
 * Makes sandboxes from a checkpoint of another one, side by side. A fork that fails leaves nothing behind.
 * @param takeCheckpoint what to fork where no checkpoint is named
 * @param asSandbox the sandbox of a connection, which has inherited a checkpoint
 */
export async function forkSandbox(
  lender: EngineClient,
  options: ForkOptions,
  takeCheckpoint: (signal: AbortSignal | undefined) => Promise<string>,
  asSandbox: (connected: ConnectedSandbox, inherited: string) => Sandbox,
): Promise<{ checkpoint: string; members: ForkOutcome[] }> {
  const checked = validate(forkOptionsSchema, options, 'options')
  const { from, count, signal } = checked
  throwIfAborted(signal, 'fork')
  const wanted = from === undefined ? await takeCheckpoint(signal) : typeof from === 'string' ? from : from.id
  const { id: lenderId } = await requestInfo(lender, signal)
  const lent = await lender.request(
    { case: 'lend', value: { target: wanted } },
    {
      expect: 'lent',
      accept: ({ value }): Lent => ({ checkpointId: value.checkpointId, lastLayer: value.lastLayer }),
      signal,
    },
  )
  const make = async (index: number) => {
    const connected = await makeFork(lenderId, lent, checked)
    const fork = asSandbox(connected, lent.checkpointId)
    if (checked.beforeThaw !== undefined) await prepare(fork, connected.client, index, checked.beforeThaw)
    return fork
  }
  const members = await Promise.allSettled(Array.from({ length: count }, (_, index) => make(index)))
  if (signal?.aborted === true) {
    await Promise.all(members.filter((member) => member.status === 'fulfilled').map(({ value }) => value.kill()))
    throwIfAborted(signal, 'fork')
  }
  return { checkpoint: lent.checkpointId, members }
}

/** Runs a hook in a fork whose processes stand still, and lets them go on. */
async function prepare(fork: Sandbox, client: EngineClient, index: number, beforeThaw: BeforeThaw): Promise<void> {
  try {
    await beforeThaw(fork, index)
    await client.request({ case: 'thaw', value: {} }, { expect: 'empty', accept: () => undefined })
  } catch (error) {
    await fork.kill().catch(() => undefined)
    throw error
  }
}

async function makeFork(lenderId: string, lent: Lent, options: CheckedOptions): Promise<ConnectedSandbox> {
  const { addon, enginePath } = native()
  const id = newSandboxId()
  const createdAtMs = Date.now()
  const { metadata, idleTimeoutMs, orphanTimeoutMs } = options
  const dir = await makeSandboxDir(id)
  const limit = AbortSignal.timeout(CREATE_TIMEOUT_MS)
  let client: EngineClient | undefined
  try {
    await addBorrower(lenderId, id)
    client = new EngineClient(addon.spawnEngine(enginePath, ['serve'], join(dir, 'engine.log')), addon)
    const info = await client.request(
      {
        case: 'create',
        value: {
          id,
          stateDir: dir,
          createdAtMs: BigInt(createdAtMs),
          metadata,
          idleTimeoutMs: BigInt(idleTimeoutMs),
          orphanTimeoutMs: BigInt(orphanTimeoutMs),
          fork: {
            stateDir: sandboxDirPath(lenderId),
            checkpointId: lent.checkpointId,
            lastLayer: lent.lastLayer,
            hold: options.beforeThaw !== undefined,
          },
        },
      },
      { expect: 'info', accept: ({ value }) => toSandboxInfo(value), signal: limit },
    )
    const { workspace, workspaceMount } = info
    await writeSandboxRecord(dir, { version: 1, id, workspace, workspaceMount, createdAtMs, metadata })
    return { client, info }
  } catch (error) {
    const engineLog = await readLogTail(dir)
    if (client !== undefined) await requestKill(client).catch(() => undefined)
    await removeSandbox(id)
    throw withLog(fromSystemError(error, 'forking the sandbox'), engineLog)
  }
}

import { realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { abortedError, throwIfAborted } from '../errors/abort.js'
import { fromSystemError, REPORT_WITH_LOG } from '../errors/convert.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { validate } from '../errors/validate.js'
import { toWireLimits } from '../limits/wire.js'
import { toNetworkFields } from '../network/wire.js'
import { EngineClient } from '../protocol/engine-client.js'
import { LOOK_INTO_LOG } from '../protocol/failure.js'
import { native } from '../protocol/native.js'
import { removeSandbox } from '../state/remove-sandbox.js'
import { newSandboxId } from '../state/ids.js'
import { listSandboxIds, makeSandboxDir, readLogTail, writeSandboxRecord } from '../state/sandbox-dir.js'
import { isInside, prepareStateDir } from '../state/state-dir.js'
import { CREATE_TIMEOUT_MS, removeIfEnded } from './engine-state.js'
import { requestKill } from './kill.js'
import { toSandboxInfo } from './info.js'
import { createOptionsSchema, type CreateSandboxOptions, type SandboxInfo } from './options.js'

/** A connection to a sandbox and what its engine said of it. */
export interface ConnectedSandbox {
  readonly client: EngineClient
  readonly info: SandboxInfo
}

/** Starts an engine and has it make a sandbox; whatever fails, nothing is left behind. */
export async function createSandbox(options: CreateSandboxOptions): Promise<ConnectedSandbox> {
  const { signal, ...checked } = validate(createOptionsSchema, options, 'options')
  throwIfAborted(signal, 'create')
  const { addon, enginePath } = native()
  const workspace = await resolveWorkspace(checked.workspace)
  const rootfs = checked.rootfs === 'host' ? '' : await resolveHostPath(checked.rootfs, 'rootfs')
  const volumes = await Promise.all(
    checked.volumes.map(async ({ path, from, mode }) => ({
      path,
      from: from === undefined ? '' : await resolveHostPath(from, `the source of volume ${path}`),
      readOnly: mode === 'ro',
    })),
  )
  const stateDir = await prepareStateDir()
  assertApart(`the workspace ${workspace}`, workspace, stateDir)
  if (rootfs !== '') assertApart(`the rootfs ${rootfs}`, rootfs, stateDir)
  for (const { path, from } of volumes) if (from !== '') assertApart(`the source of volume ${path}`, from, stateDir)

  // Nobody else may look for a long time.
  await Promise.all((await listSandboxIds()).map((other) => removeIfEnded(other)))
  const id = newSandboxId()
  const createdAtMs = Date.now()
  const dir = await makeSandboxDir(id)
  const limit = AbortSignal.timeout(CREATE_TIMEOUT_MS)
  let client: EngineClient | undefined
  try {
    client = new EngineClient(addon.spawnEngine(enginePath, ['serve'], join(dir, 'engine.log')), addon)
    // Not abortable in itself: what was begun is first completed, then undone.
    const info = await client.request(
      {
        case: 'create',
        value: {
          id,
          stateDir: dir,
          workspace,
          workspaceMount: checked.workspaceMount,
          ...toNetworkFields(checked.network, process.env),
          limits: toWireLimits(checked.limits),
          rootfs,
          volumes,
          idleTimeoutMs: BigInt(checked.idleTimeoutMs),
          retention: {
            keepLast: BigInt(checked.retention.keepLast ?? 0),
            dropNamed: !checked.retention.keepNamed,
            maxBytes: BigInt(checked.retention.maxBytes ?? 0),
            hotBytes: BigInt(checked.retention.hotBytes ?? 0),
          },
          durableProcesses: checked.durability === 'processes',
          orphanTimeoutMs: BigInt(checked.orphanTimeoutMs),
          metadata: checked.metadata,
          createdAtMs: BigInt(createdAtMs),
        },
      },
      {
        expect: 'info',
        accept: ({ value }) => toSandboxInfo(value),
        signal: limit,
      },
    )
    if (signal?.aborted === true) throw abortedError(signal, 'create')
    const { workspaceMount, metadata } = checked
    await writeSandboxRecord(dir, { version: 1, id, workspace, workspaceMount, createdAtMs, metadata })
    return { client, info }
  } catch (error) {
    const reason = limit.aborted ? createTimeout(error) : fromSystemError(error, 'starting the engine')
    const failure = withLog(reason, await readLogTail(dir))
    if (client !== undefined) await requestKill(client).catch(() => undefined)
    await removeSandbox(id)
    throw failure
  }
}

async function resolveWorkspace(path: string): Promise<string> {
  try {
    const workspace = await realpath(path)
    if ((await stat(workspace)).isDirectory()) return workspace
  } catch (error) {
    throw fromSystemError(error, `workspace ${path}`)
  }
  throw new DeltaboxError('NOT_A_DIRECTORY', {
    message: `the workspace ${path} is not a directory`,
    nextStep: 'name the directory of a project',
  })
}

async function resolveHostPath(path: string, what: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    throw fromSystemError(error, `${what}, ${path}`)
  }
}

/** A sandbox that saw its own store could damage it; a store inside the workspace would grow into itself. */
function assertApart(what: string, path: string, stateDir: string): void {
  if (!isInside(stateDir, path) && !isInside(path, stateDir)) return
  throw new DeltaboxError('INVALID_ARGUMENT', {
    message: `${what} and the state directory ${stateDir} lie one inside the other`,
    nextStep: 'set DELTABOX_STATE_DIR to a directory outside of it',
  })
}

function createTimeout(cause: unknown): DeltaboxError<'TIMEOUT'> {
  return new DeltaboxError('TIMEOUT', {
    message: `the engine did not make the sandbox within ${CREATE_TIMEOUT_MS} ms`,
    nextStep: 'run `deltabox doctor`',
    cause,
  })
}

/** The log goes with the directory: its last lines travel in the error, and nothing points to its place. */
export function withLog(error: DeltaboxError, engineLog: string): DeltaboxError {
  const { code, message, nextStep, data, cause } = error
  return new DeltaboxError(code, {
    message,
    nextStep: nextStep === LOOK_INTO_LOG || nextStep === REPORT_WITH_LOG ? LOOK_HERE : nextStep,
    cause,
    data: engineLog === '' ? data : { ...data, engineLog },
  })
}

const LOOK_HERE =
  'run `deltabox doctor`, which tries what a sandbox needs; what the engine said last is in `data.engineLog`'

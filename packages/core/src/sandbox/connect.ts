import { setTimeout } from 'node:timers/promises'
import { errnoName, fromSystemError } from '../errors/convert.js'
import { DeltaboxError, isDeltaboxError } from '../errors/deltabox-error.js'
import { EngineClient } from '../protocol/engine-client.js'
import { native } from '../protocol/native.js'
import { readEndedMark } from '../state/ended.js'
import { sandboxDirExists, sandboxDirPath } from '../state/sandbox-dir.js'
import { assertSandboxId } from '../state/ids.js'
import type { ConnectedSandbox } from './create.js'
import { CREATE_TIMEOUT_MS, GONE_PAUSE_MS, GONE_TRIES, isBeingCreated, removeIfEnded } from './engine-state.js'
import { requestInfo } from './info.js'
import { recoverSandbox } from './recover.js'

/**
 * Connects to the engine of a sandbox.
 * @throws INVALID_ARGUMENT, SANDBOX_NOT_FOUND, SANDBOX_DEAD
 */
export async function openEngine(id: string): Promise<EngineClient> {
  assertSandboxId(id)
  const { addon } = native()
  if (!(await sandboxDirExists(id))) {
    throw new DeltaboxError('SANDBOX_NOT_FOUND', {
      message: `there is no sandbox ${id}`,
      nextStep: 'run `deltabox ls` to see the sandboxes',
    })
  }
  try {
    return new EngineClient(addon.connectEngine(sandboxDirPath(id)), addon)
  } catch (error) {
    const osError = errnoName(error)
    if (osError !== 'ENOENT' && osError !== 'ECONNREFUSED') throw fromSystemError(error, `connecting to ${id}`)
    if (await isBeingCreated(id)) {
      throw new DeltaboxError('BUSY', {
        message: `sandbox ${id} is being created`,
        nextStep: 'try again in a moment; a creation that fails removes what it made',
        cause: error,
      })
    }
    const ended = await readEndedMark(id)
    if (ended !== undefined && (await removeIfEnded(id))) {
      throw new DeltaboxError('SANDBOX_DEAD', {
        message: `sandbox ${id} is gone: ${ended}`,
        nextStep: 'create a new one',
        cause: error,
      })
    }
    throw new DeltaboxError('SANDBOX_DEAD', {
      message: `the engine of sandbox ${id} does not run any more`,
      nextStep: `run \`deltabox rm ${id}\` to remove what it left`,
      cause: error,
    })
  }
}

/** An engine at work answers within seconds; one that does not is stopped, or its machine swaps. */
const CONNECT_TIMEOUT_MS = 60_000

/**
 * Connects and asks the engine who it is. Where the engine has ended without its sandbox, another one brings the files
 * back first; `info.warnings` tell.
 */
export async function connectSandbox(
  id: string,
  signal: AbortSignal | undefined,
  timeoutMs = CONNECT_TIMEOUT_MS,
): Promise<ConnectedSandbox> {
  for (let attempt = 1; ; attempt += 1) {
    const client = await openOrRecover(id, signal)
    const limit = AbortSignal.timeout(timeoutMs)
    try {
      return {
        client,
        info: await requestInfo(client, signal === undefined ? limit : AbortSignal.any([signal, limit])),
      }
    } catch (error) {
      client.close()
      if (limit.aborted && signal?.aborted !== true) throw connectTimeout(id, timeoutMs, error)
      if (!isDeltaboxError(error, 'ENGINE_LOST') || attempt === GONE_TRIES || signal?.aborted === true) throw error
      await setTimeout(GONE_PAUSE_MS)
    }
  }
}

function connectTimeout(id: string, timeoutMs: number, cause: unknown): DeltaboxError<'TIMEOUT'> {
  return new DeltaboxError('TIMEOUT', {
    message: `the engine of ${id} did not answer within ${timeoutMs} ms`,
    nextStep: 'if its process is stopped, let it go on (kill -CONT) or kill it, then connect again',
    cause,
  })
}

async function openOrRecover(id: string, signal: AbortSignal | undefined): Promise<EngineClient> {
  const endMs = performance.now() + CREATE_TIMEOUT_MS
  for (;;) {
    try {
      return await openEngine(id)
    } catch (error) {
      if (!isDeltaboxError(error, 'SANDBOX_DEAD')) throw error
      const client = await recoverSandbox(id, error, signal)
      if (client !== undefined) return client
      // Another client starts an engine, which does not listen yet.
      if (performance.now() > endMs || signal?.aborted === true) throw error
      await setTimeout(GONE_PAUSE_MS)
    }
  }
}

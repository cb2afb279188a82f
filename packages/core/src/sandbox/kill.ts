import { setTimeout } from 'node:timers/promises'
import { DeltaboxError, isDeltaboxError } from '../errors/deltabox-error.js'
import type { EngineClient } from '../protocol/engine-client.js'
import { removeSandbox } from '../state/remove-sandbox.js'
import { sandboxDirExists } from '../state/sandbox-dir.js'
import { GONE_PAUSE_MS, GONE_TRIES } from './engine-state.js'
import { openEngine } from './connect.js'

/** Ending all tasks and removing the store of a large sandbox takes seconds on a slow disk. */
const KILL_TIMEOUT_MS = 60_000

/**
 * Asks the engine to end the sandbox and waits until it is gone. An engine that is gone already is fine.
 * @throws TIMEOUT
 */
export async function requestKill(client: EngineClient): Promise<void> {
  const release = client.hold()
  let timer: NodeJS.Timeout | undefined
  try {
    await Promise.race([
      client
        .request({ case: 'killSandbox', value: {} }, { expect: 'empty', accept: () => undefined })
        .then(() => client.closed),
      new Promise<never>((_, reject) => {
        timer = globalThis.setTimeout(() => reject(killTimeout()), KILL_TIMEOUT_MS)
      }),
    ])
  } catch (error) {
    if (!isDeltaboxError(error, 'ENGINE_LOST')) throw error
  } finally {
    clearTimeout(timer)
    release()
    client.close()
  }
}

/**
 * Makes sure that nobody answers for the sandbox any more. A lost connection alone does not say so: an engine also hangs
 * up on a caller who is not its owner, or who is one too many.
 * @throws BUSY
 */
export async function ensureEngineGone(id: string): Promise<void> {
  for (let attempt = 0; attempt < GONE_TRIES; attempt += 1) {
    try {
      const client = await openEngine(id)
      client.close()
    } catch (error) {
      if (isDeltaboxError(error, 'SANDBOX_DEAD') || isDeltaboxError(error, 'SANDBOX_NOT_FOUND')) return
      throw error
    }
    await setTimeout(GONE_PAUSE_MS)
  }
  throw new DeltaboxError('BUSY', {
    message: `the engine of ${id} still runs: it did not take the call`,
    nextStep: 'call as the user who made the sandbox, and close other clients of it; nothing was removed',
  })
}

function killTimeout(): DeltaboxError<'TIMEOUT'> {
  return new DeltaboxError('TIMEOUT', {
    message: `the engine did not end within ${KILL_TIMEOUT_MS} ms`,
    nextStep: 'try again; if it still does not end, kill the deltabox-engine process and run `deltabox rm`',
  })
}

/**
 * Ends a sandbox, running or dead, and removes all of it.
 * @returns whether there was one.
 */
export async function killSandbox(id: string): Promise<boolean> {
  let existed = true
  try {
    await requestKill(await openEngine(id))
  } catch (error) {
    if (isDeltaboxError(error, 'SANDBOX_NOT_FOUND')) existed = false
    else if (!isDeltaboxError(error, 'SANDBOX_DEAD')) throw error
  }
  await ensureEngineGone(id)
  if (await sandboxDirExists(id)) await removeSandbox(id)
  return existed
}

import { DeltaboxError, isDeltaboxError } from '../errors/deltabox-error.js'
import type { EngineClient } from '../protocol/engine-client.js'
import { removeSandboxDir, sandboxDirExists } from '../state/sandbox-dir.js'
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
        timer = setTimeout(() => reject(killTimeout()), KILL_TIMEOUT_MS)
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
  if (await sandboxDirExists(id)) await removeSandboxDir(id)
  return existed
}

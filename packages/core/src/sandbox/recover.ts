import { join } from 'node:path'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { EngineClient } from '../protocol/engine-client.js'
import { native } from '../protocol/native.js'
import { readSandboxRecord, sandboxDirPath } from '../state/sandbox-dir.js'
import { CREATE_TIMEOUT_MS } from './engine-state.js'

/**
 * Starts an engine for a sandbox whose own has ended, with the files of the last state, or of the last durable
 * checkpoint when the machine was started anew since. Undefined when another client was faster.
 * @throws the error given, for a sandbox that was never complete; DAMAGED
 */
export async function recoverSandbox(
  id: string,
  dead: DeltaboxError,
  signal: AbortSignal | undefined,
): Promise<EngineClient | undefined> {
  if ((await readSandboxRecord(id)) === undefined) throw dead
  const { addon, enginePath } = native()
  const stateDir = sandboxDirPath(id)
  const limit = AbortSignal.timeout(CREATE_TIMEOUT_MS)
  const client = new EngineClient(addon.spawnEngine(enginePath, ['serve'], join(stateDir, 'engine.log')), addon)
  try {
    await client.request(
      { case: 'create', value: { id, stateDir, recover: true } },
      {
        expect: 'info',
        accept: () => undefined,
        signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
      },
    )
    return client
  } catch (error) {
    client.close()
    if (error instanceof DeltaboxError && error.code === 'BUSY') return undefined
    throw error
  }
}

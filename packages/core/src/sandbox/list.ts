import { listSandboxIds, readSandboxRecord } from '../state/sandbox-dir.js'
import { engineState, removeIfEnded } from './engine-state.js'
import type { SandboxListEntry } from './options.js'

/** All sandboxes of the state directory, oldest first. Removes what those left that ended by their time-out. */
export async function listSandboxes(): Promise<SandboxListEntry[]> {
  const entries = await Promise.all(
    (await listSandboxIds()).map(async (id): Promise<SandboxListEntry | undefined> => {
      if (await removeIfEnded(id)) return undefined
      const record = await readSandboxRecord(id)
      return {
        id,
        state: await engineState(id),
        workspace: record?.workspace ?? null,
        createdAtMs: record?.createdAtMs ?? null,
        metadata: record?.metadata ?? {},
      }
    }),
  )
  return entries
    .filter((entry) => entry !== undefined)
    .sort((a, b) => (a.createdAtMs ?? Infinity) - (b.createdAtMs ?? Infinity))
}

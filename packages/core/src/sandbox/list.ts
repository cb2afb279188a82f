import { closeSync } from 'node:fs'
import { errnoName } from '../errors/convert.js'
import { native } from '../protocol/native.js'
import { listSandboxIds, readSandboxRecord, sandboxDirPath } from '../state/sandbox-dir.js'
import type { SandboxListEntry } from './options.js'

function engineState(id: string): SandboxListEntry['state'] {
  try {
    closeSync(native().addon.connectEngine(sandboxDirPath(id)))
    return 'running'
  } catch (error) {
    // Only these two say that nobody listens; anything else (a full queue) is a living engine.
    const osError = errnoName(error)
    if (osError === 'ENOENT' || osError === 'ECONNREFUSED') return 'dead'
    if (osError === undefined) throw error
    return 'running'
  }
}

/** All sandboxes of the state directory, oldest first. */
export async function listSandboxes(): Promise<SandboxListEntry[]> {
  const entries = await Promise.all(
    (await listSandboxIds()).map(async (id): Promise<SandboxListEntry> => {
      const record = await readSandboxRecord(id)
      return {
        id,
        state: engineState(id),
        workspace: record?.workspace ?? null,
        createdAtMs: record?.createdAtMs ?? null,
        metadata: record?.metadata ?? {},
      }
    }),
  )
  return entries.sort((a, b) => (a.createdAtMs ?? 0) - (b.createdAtMs ?? 0))
}

import { mkdir, open, readdir, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { errnoName, fromSystemError } from '../errors/convert.js'
import { assertSandboxId, isSandboxId } from './ids.js'
import { removeTree } from './remove-tree.js'
import { stateDirPath } from './state-dir.js'

const sandboxRecordSchema = z.object({
  version: z.literal(1),
  id: z.string(),
  workspace: z.string(),
  workspaceMount: z.string(),
  createdAtMs: z.number(),
  metadata: z.record(z.string(), z.string()),
})

/** What `info.json` keeps, so that a sandbox can be listed without its engine. */
export type SandboxRecord = z.output<typeof sandboxRecordSchema>

// The end of the log is where the reason of a failure is.
const LOG_TAIL_BYTES = 4096

/** The directory of a sandbox; the id is checked before it becomes a path. */
export function sandboxDirPath(id: string): string {
  assertSandboxId(id)
  return join(stateDirPath(), 'sandboxes', id)
}

/** Makes the directory of a new sandbox, mode 0700. */
export async function makeSandboxDir(id: string): Promise<string> {
  const path = sandboxDirPath(id)
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    throw fromSystemError(error, `directory ${path}`)
  }
  return path
}

/** Removes a sandbox's directory; its engine must be gone. Idempotent. */
export async function removeSandboxDir(id: string): Promise<void> {
  const path = sandboxDirPath(id)
  try {
    await removeTree(path)
  } catch (error) {
    throw fromSystemError(error, `removing ${path}`)
  }
}

/** Writes info.json: whole or not at all. */
export async function writeSandboxRecord(dir: string, record: SandboxRecord): Promise<void> {
  const path = join(dir, 'info.json')
  const temporary = `${path}.new`
  try {
    const file = await open(temporary, 'w', 0o600)
    try {
      await file.writeFile(JSON.stringify(record, null, 2) + '\n')
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    throw fromSystemError(error, `writing ${path}`)
  }
}

/** Reads info.json; undefined when it is missing or damaged. */
export async function readSandboxRecord(id: string): Promise<SandboxRecord | undefined> {
  try {
    const parsed = sandboxRecordSchema.safeParse(
      JSON.parse(await readFile(join(sandboxDirPath(id), 'info.json'), 'utf8')),
    )
    return parsed.success ? parsed.data : undefined
  } catch (error) {
    if (error instanceof SyntaxError || errnoName(error) === 'ENOENT') return undefined
    throw fromSystemError(error, `info.json of ${id}`)
  }
}

/** The ids of all sandboxes that have a directory, sorted. */
export async function listSandboxIds(): Promise<string[]> {
  try {
    const ids = (await readdir(join(stateDirPath(), 'sandboxes'))).filter(isSandboxId).sort()
    const lending = await Promise.all(ids.map((id) => isOnlyLending(id)))
    return ids.filter((_, index) => lending[index] === false)
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return []
    throw fromSystemError(error, 'listing sandboxes')
  }
}

/** Whether a sandbox has a directory; what only lends its layers is none any more. */
export async function sandboxDirExists(id: string): Promise<boolean> {
  return (await anythingExists(id)) && !(await isOnlyLending(id))
}

/** In the directory of a sandbox that was removed while forks use its layers (remove-sandbox.ts). */
export const LENDING_MARK = 'only-lending'

/** Whether a sandbox was removed and is there for its forks alone. */
export function isOnlyLending(id: string): Promise<boolean> {
  return pathExists(join(sandboxDirPath(id), LENDING_MARK), id)
}

/** Whether anything is left of a sandbox. */
export function anythingExists(id: string): Promise<boolean> {
  return pathExists(sandboxDirPath(id), id)
}

async function pathExists(path: string, id: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return false
    throw fromSystemError(error, `sandbox ${id}`)
  }
}

/** The last lines of an engine's log; empty when there is none. */
export async function readLogTail(dir: string): Promise<string> {
  try {
    const log = await readFile(join(dir, 'engine.log'))
    return log
      .subarray(Math.max(0, log.length - LOG_TAIL_BYTES))
      .toString('utf8')
      .trim()
  } catch {
    return ''
  }
}

import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoName, fromSystemError } from '../errors/convert.js'
import { isSandboxId } from './ids.js'
import { borrowersOf } from './lending.js'
import { anythingExists, isOnlyLending, LENDING_MARK, removeSandboxDir, sandboxDirPath } from './sandbox-dir.js'

/**
 * Removes all of a sandbox, whose engine must be gone. While forks use its layers its store stays, and the sandbox is
 * gone all the same; the last fork takes the store with it. Idempotent.
 */
export async function removeSandbox(id: string): Promise<void> {
  if (!(await anythingExists(id))) return
  const lender = await readLender(id)
  if ((await borrowersOf(id)).length > 0) return keepStoreOnly(id)
  await removeSandboxDir(id)
  if (lender !== undefined && (await isOnlyLending(lender))) await removeSandbox(lender)
}

async function readLender(id: string): Promise<string | undefined> {
  try {
    const lender = await readFile(join(sandboxDirPath(id), 'lender'), 'utf8')
    return isSandboxId(lender) ? lender : undefined
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return undefined
    throw fromSystemError(error, `the lender of ${id}`)
  }
}

async function keepStoreOnly(id: string): Promise<void> {
  const dir = sandboxDirPath(id)
  try {
    await writeFile(join(dir, LENDING_MARK), '', { mode: 0o600 })
    await Promise.all(['info.json', 'engine.sock', 'engine.log'].map((name) => rm(join(dir, name), { force: true })))
  } catch (error) {
    throw fromSystemError(error, `removing ${dir}`)
  }
}

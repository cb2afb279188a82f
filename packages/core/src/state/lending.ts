import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoName, fromSystemError } from '../errors/convert.js'
import { isSandboxId } from './ids.js'
import { anythingExists, sandboxDirPath } from './sandbox-dir.js'

/**
 * A fork uses the layers of the sandbox that it was forked from, and of those before it, where they lie. Each lender
 * notes its borrowers in `borrowers/`, and its store stays until the last of them is gone; each fork notes its lender in
 * `lender`.
 */
export async function addBorrower(lender: string, borrower: string): Promise<void> {
  try {
    await writeFile(join(sandboxDirPath(borrower), 'lender'), lender, { mode: 0o600 })
    const dir = join(sandboxDirPath(lender), 'borrowers')
    await mkdir(dir, { recursive: true, mode: 0o700 })
    await writeFile(join(dir, borrower), '', { mode: 0o600 })
  } catch (error) {
    throw fromSystemError(error, `lending from ${lender}`)
  }
}

/** The forks of a sandbox that still exist, whether they run or, ended, lend themselves. */
export async function borrowersOf(id: string): Promise<string[]> {
  const names = await listBorrowers(id)
  const exist = await Promise.all(names.map((name) => anythingExists(name)))
  return names.filter((_, index) => exist[index])
}

async function listBorrowers(id: string): Promise<string[]> {
  try {
    return (await readdir(join(sandboxDirPath(id), 'borrowers'))).filter(isSandboxId)
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return []
    throw fromSystemError(error, `the borrowers of ${id}`)
  }
}

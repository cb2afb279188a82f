import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sandboxDirPath } from './sandbox-dir.js'

/**
 * Why a sandbox ended itself, for example "ended by its idle time-out"; undefined when it did not. Its engine leaves
 * this mark last of all: who finds it removes the directory, which the engine can't.
 */
export async function readEndedMark(id: string): Promise<string | undefined> {
  try {
    return await readFile(join(sandboxDirPath(id), 'store', 'ended'), 'utf8')
  } catch {
    return undefined
  }
}

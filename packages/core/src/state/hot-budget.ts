import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { fromSystemError } from '../errors/convert.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { validate } from '../errors/validate.js'
import { prepareStateDir } from './state-dir.js'

// What engines map: packages/native/src/budget/shared_budget.h.
const MAGIC = Buffer.from('DBXHOT1\0', 'latin1')
const BOUND_OFFSET = 8

const boundSchema = z.int().min(1).max(Number.MAX_SAFE_INTEGER).nullable()

/**
 * Bounds the memory that the checkpoints of all sandboxes of the state directory take together, from now on, whoever
 * made them. Beyond it the one that was used least recently goes cold, in whichever sandbox it is; pinned ones stay.
 * @param bytes null: no bound, as before the first call
 * @throws INVALID_ARGUMENT; DAMAGED; PERMISSION_DENIED; NO_SPACE
 */
export async function setHotBudget(bytes: number | null): Promise<void> {
  const bound = validate(boundSchema, bytes, 'bytes')
  const written = Buffer.alloc(8)
  written.writeBigUInt64LE(BigInt(bound ?? 0))
  await withBudgetFile((file) => file.write(written, 0, written.length, BOUND_OFFSET))
}

/** The bound in bytes that {@link setHotBudget} set; null: none. @throws DAMAGED, PERMISSION_DENIED */
export async function getHotBudget(): Promise<number | null> {
  const read = Buffer.alloc(8)
  await withBudgetFile((file) => file.read(read, 0, read.length, BOUND_OFFSET))
  const bound = Number(read.readBigUInt64LE())
  return bound === 0 ? null : bound
}

async function withBudgetFile(use: (file: FileHandle) => Promise<unknown>): Promise<void> {
  const path = join(await prepareStateDir(), 'hot-budget')
  try {
    const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
    try {
      const magic = Buffer.alloc(MAGIC.length)
      const { bytesRead } = await file.read(magic, 0, magic.length, 0)
      if (bytesRead === 0) await file.write(MAGIC, 0, MAGIC.length, 0)
      else if (!magic.equals(MAGIC)) {
        throw new DeltaboxError('DAMAGED', {
          message: `${path} is not a budget of this version`,
          nextStep: 'Remove it while no sandbox runs, then set the bound anew.',
        })
      }
      await use(file)
    } finally {
      await file.close()
    }
  } catch (error) {
    throw fromSystemError(error, `the budget ${path}`)
  }
}

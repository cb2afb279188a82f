import { constants } from 'node:fs'
import { chmod, open, readdir, rename, rmdir, unlink } from 'node:fs/promises'
import { errnoName } from '../errors/convert.js'

// Linux's O_PATH: a handle on the directory itself, which needs no permission to read it. Node does not name it.
const O_PATH = 0o10000000
/** Each level holds a descriptor; directories below this are moved up first. */
const MAX_DEPTH = 100

/**
 * Removes a directory with everything below it, whatever its names and its depth. Never follows a link: each step goes
 * through a handle of the parent. Overlayfs leaves work directories with mode 000, so each directory is made accessible
 * first.
 */
export async function removeTree(path: string): Promise<void> {
  await removeBelow(Buffer.from(path), 0, undefined)
}

/** Where directories that lie too deep are moved to: below the root of the removal, which removes them after the rest. */
interface Rescue {
  readonly dir: string
  count: number
}

async function removeBelow(path: Buffer, depth: number, rescue: Rescue | undefined): Promise<void> {
  let handle
  try {
    handle = await open(path, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return
    throw error
  }
  const throughHandle = `/proc/self/fd/${handle.fd}`
  const moved = rescue ?? { dir: throughHandle, count: 0 }
  try {
    await chmod(throughHandle, 0o700)
    if (rescue !== undefined && depth >= MAX_DEPTH) await moveUp(throughHandle, moved)
    else await removeEntries(throughHandle, depth, moved)
    // Only the root of the removal finds something here.
    for (let done = 0; rescue === undefined && done < moved.count; done++) {
      await removeBelow(movedName(moved, done), 1, moved)
    }
  } finally {
    await handle.close()
  }
  await unlessGone(rmdir(path))
}

async function removeEntries(throughHandle: string, depth: number, rescue: Rescue): Promise<void> {
  // As bytes: names need not be UTF-8.
  for (const entry of await readdir(throughHandle, { withFileTypes: true, encoding: 'buffer' })) {
    const child = Buffer.concat([Buffer.from(`${throughHandle}/`), entry.name])
    if (entry.isDirectory()) await removeBelow(child, depth + 1, rescue)
    else await unlessGone(unlink(child))
  }
}

/** Somebody else may be removing the same tree. */
async function unlessGone(removal: Promise<void>): Promise<void> {
  try {
    await removal
  } catch (error) {
    if (errnoName(error) !== 'ENOENT') throw error
  }
}

async function moveUp(throughHandle: string, rescue: Rescue): Promise<void> {
  for (const entry of await readdir(throughHandle, { withFileTypes: true, encoding: 'buffer' })) {
    const child = Buffer.concat([Buffer.from(`${throughHandle}/`), entry.name])
    if (entry.isDirectory()) {
      await chmod(child, 0o700) // moving a directory writes its ".."
      await rename(child, movedName(rescue, rescue.count++))
    } else await unlink(child)
  }
}

const movedName = ({ dir }: Rescue, number: number) => Buffer.from(`${dir}/.deltabox-removed-${number}`)

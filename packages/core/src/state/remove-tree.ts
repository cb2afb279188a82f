import { constants } from 'node:fs'
import { chmod, open, readdir, rmdir, unlink } from 'node:fs/promises'
import { errnoName } from '../errors/convert.js'

// Linux's O_PATH: a handle on the directory itself, which needs no permission to read it. Node does not name it.
const O_PATH = 0o10000000

/**
 * Removes a directory with everything below it. Never follows a link: each step goes through a handle of the
 * parent. Overlayfs leaves work directories with mode 000, so each directory is made accessible first.
 */
export async function removeTree(path: string): Promise<void> {
  let handle
  try {
    handle = await open(path, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return
    throw error
  }
  const throughHandle = `/proc/self/fd/${handle.fd}`
  try {
    await chmod(throughHandle, 0o700)
    for (const entry of await readdir(throughHandle, { withFileTypes: true })) {
      const child = `${throughHandle}/${entry.name}`
      if (entry.isDirectory()) await removeTree(child)
      else await unlink(child)
    }
  } finally {
    await handle.close()
  }
  await rmdir(path)
}

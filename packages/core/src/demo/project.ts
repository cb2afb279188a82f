import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFile, mkdtemp, readdir, readFile, readlink, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { DeltaboxError } from '../errors/deltabox-error.js'

const run = promisify(execFile)

/** The project whose package contains its own tests. */
const PROJECT = 'qs'
const NPM_TIMEOUT_MS = 300_000
const manifestDir = fileURLToPath(new URL('../../demo/', import.meta.url))

/** A project on the host's disk. */
export interface DemoProject {
  readonly dir: string
  /** Name and version. */
  readonly title: string
  remove(): Promise<void>
}

/** Installs the pinned project with its tests' dependencies. @throws INTERNAL when npm fails */
export async function installProject(): Promise<DemoProject> {
  const parent = await mkdtemp(join(tmpdir(), 'deltabox-demo-'))
  const remove = () => rm(parent, { recursive: true, force: true })
  try {
    for (const file of ['package.json', 'package-lock.json'])
      await copyFile(join(manifestDir, file), join(parent, file))
    await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: parent, timeout: NPM_TIMEOUT_MS })
    // The project becomes the root; what its tests need lies below it, as in a checkout of it.
    const dir = join(parent, PROJECT)
    await rename(join(parent, 'node_modules', PROJECT), dir)
    await rename(join(parent, 'node_modules'), join(dir, 'node_modules'))
    const { version } = JSON.parse(await readFile(join(dir, 'package.json'), 'utf8')) as { version: string }
    return { dir, title: `${PROJECT}@${version}`, remove }
  } catch (cause) {
    await remove()
    throw new DeltaboxError('INTERNAL', {
      message: `installing the demo’s project failed: ${cause instanceof Error ? cause.message : String(cause)}`,
      nextStep: 'check that `npm ci` can reach its registry',
      cause,
    })
  }
}

/** A hash over names, kinds and contents of everything below a directory of the host. */
export async function hashTree(dir: string): Promise<string> {
  const hash = createHash('sha256')
  const visit = async (path: string): Promise<void> => {
    const entries = await readdir(join(dir, path), { withFileTypes: true })
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const child = join(path, entry.name)
      hash.update(`${child}\0${entry.isDirectory() ? 'd' : entry.isSymbolicLink() ? 'l' : 'f'}\0`)
      if (entry.isDirectory()) await visit(child)
      else if (entry.isSymbolicLink()) hash.update(await readlink(join(dir, child)))
      else hash.update(await readFile(join(dir, child)))
    }
  }
  await visit('.')
  return hash.digest('hex')
}

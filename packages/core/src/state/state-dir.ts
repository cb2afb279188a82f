import { lstat, mkdir, realpath } from 'node:fs/promises'
import { homedir } from 'node:os'
import { isAbsolute, join, relative, resolve } from 'node:path'
import { fromSystemError } from '../errors/convert.js'
import { DeltaboxError } from '../errors/deltabox-error.js'

/** What the choice of the state directory depends on. */
export interface StateDirSources {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly uid: number
  /** Asked only where the answer matters: an account may have none. */
  readonly home: () => string
}

function ownSources(): StateDirSources {
  return { env: process.env, uid: process.getuid?.() ?? -1, home: homedir }
}

/**
 * Where sandboxes are kept: $DELTABOX_STATE_DIR, else for root /var/lib/deltabox, else
 * $XDG_STATE_HOME/deltabox or ~/.local/state/deltabox.
 */
export function stateDirPath(sources: StateDirSources = ownSources()): string {
  const { DELTABOX_STATE_DIR: chosen, XDG_STATE_HOME: xdg } = sources.env
  if (chosen !== undefined && chosen !== '') return resolve(chosen)
  if (sources.uid === 0) return '/var/lib/deltabox'
  // The XDG specification says that a relative value is to be ignored.
  if (xdg !== undefined && isAbsolute(xdg)) return join(xdg, 'deltabox')
  return join(homeOf(sources), '.local', 'state', 'deltabox')
}

function homeOf({ home }: StateDirSources): string {
  try {
    return home()
  } catch (cause) {
    throw new DeltaboxError('NOT_FOUND', {
      message: 'there is no home directory to keep the state in: HOME is not set, and this uid has no account',
      nextStep: 'set DELTABOX_STATE_DIR to a directory of your own, or set HOME',
      cause,
    })
  }
}

/**
 * Makes the state directory if it is missing (mode 0700) and returns its real path.
 * @throws NOT_FOUND without a home directory; PERMISSION_DENIED when it cannot be made or belongs to someone else.
 */
export async function prepareStateDir(): Promise<string> {
  const path = stateDirPath()
  try {
    await mkdir(join(path, 'sandboxes'), { recursive: true, mode: 0o700 })
    const stateDir = await realpath(path)
    const { uid } = await lstat(join(stateDir, 'sandboxes'))
    if (uid !== process.getuid?.()) {
      throw new DeltaboxError('PERMISSION_DENIED', {
        message: `the state directory ${path} belongs to uid ${uid}`,
        nextStep: 'set DELTABOX_STATE_DIR to a directory of your own',
      })
    }
    return stateDir
  } catch (error) {
    throw fromSystemError(error, `state directory ${path}`)
  }
}

/** Whether `inner` is `outer` or lies below it. Both must be real paths. */
export function isInside(inner: string, outer: string): boolean {
  const path = relative(outer, inner)
  return path === '' || (path !== '..' && !path.startsWith('../') && !isAbsolute(path))
}

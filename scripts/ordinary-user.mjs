// Running something as an ordinary user without capabilities, from root.
import { mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { capture, giveUp, rootDir, run } from './run.mjs'

const FIRST_UID = 64123
const MAX_UID = FIRST_UID + 100

/** A uid that no account and so no file of this machine should have. */
export function unusedUid() {
  for (let uid = FIRST_UID; uid < MAX_UID; uid++) {
    if (capture('getent', ['passwd', String(uid)]) === undefined) return uid
  }
  return giveUp(`the uids ${FIRST_UID} to ${MAX_UID} are all taken`, 'remove the account of one of them')
}

const setpriv = (uid) => [
  'setpriv',
  ...[`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--inh-caps=-all', '--bounding-set=-all'],
  '--',
]

/**
 * Runs `node scriptPath args` as this uid; scriptPath is relative to the repository. Where the uid can't reach the
 * checkout (it may lie below /root), it is bind-mounted to a reachable place, in a mount namespace that ends
 * with the run. `options`: environment and streams, as for run().
 */
export async function runNodeAs(uid, scriptPath, args, options) {
  const [program, ...asUser] = setpriv(uid)
  if (capture(program, [...asUser, process.execPath, '--version'], { cwd: '/' }) === undefined) {
    giveUp(`uid ${uid} can't run ${process.execPath}`, 'install Node where every user can reach it, or allow setpriv')
  }
  const script = [process.execPath, join(rootDir, scriptPath), ...args]
  if (capture(program, [...asUser, 'test', '-r', join(rootDir, scriptPath)], { cwd: '/' }) !== undefined) {
    return run(program, [...asUser, ...script], { ...options, cwd: '/' })
  }
  const mountPoint = `/mnt/deltabox-${process.pid}`
  mkdirSync(mountPoint, { mode: 0o755 })
  try {
    const steps = 'mount --bind "$1" "$2" && shift && shift && exec "$@"'
    const reachable = [process.execPath, join(mountPoint, scriptPath), ...args]
    return await run(
      'unshare',
      ['--mount', 'sh', '-c', steps, 'sh', rootDir, mountPoint, program, ...asUser, ...reachable],
      { ...options, cwd: '/' },
    )
  } finally {
    rmdirSync(mountPoint)
  }
}

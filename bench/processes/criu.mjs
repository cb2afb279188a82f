// CRIU alone on a Python session: no container around it.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { sh } from '../tree-methods.mjs'
import { measureDumps } from './dumps.mjs'

export async function measureCriu({ criu, ...sizes }) {
  return {
    version: checkCriu(criu),
    points: await measureDumps({ ...sizes, makeSession: (command) => criuSession(criu, command) }),
  }
}

/** The version, of one that can run here. */
export function checkCriu(criu) {
  if (criu === undefined) throw new Error('no criu in PATH or by --criu')
  if (process.getuid() !== 0) throw new Error('CRIU needs root')
  sh(criu, 'check')
  return /^Version: (\S+)/m.exec(execFileSync(criu, ['--version'], { encoding: 'utf8' }))?.[1]
}

function criuSession(criu, [program, ...args]) {
  let pid
  return {
    pid: () => pid,
    start() {
      pid = spawn(program, args, { detached: true, stdio: 'ignore' }).pid
    },
    dump: (image) => sh(criu, 'dump', '-t', String(pid), '-D', image, '-o', 'dump.log', '-R'),
    restore: (image) => sh(criu, 'restore', '-D', image, '-o', 'restore.log', '-d'),
    end() {
      if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL')
    },
  }
}

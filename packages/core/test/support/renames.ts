// What the tests of directory renames share.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Sandbox } from '../../src/index.js'

/** What the programs of the tests begin with. */
export const PRELUDE = `
import ctypes, errno, json, os, socket, stat, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2

def rename2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), 'renameat2')

def outcome(function, *arguments):
    try:
        function(*arguments)
        return 'done'
    except OSError as error:
        return errno.errorcode[error.errno]

def picture(top):
    seen = {}
    first = {}
    for path, directories, files in os.walk(os.fsencode(top)):
        for name in [b'.', *files, *(name for name in directories if os.path.islink(os.path.join(path, name)))]:
            full = os.path.join(path, name)
            info = os.lstat(full)
            text = ''
            if stat.S_ISLNK(info.st_mode): text = os.readlink(full).decode('latin1')
            if stat.S_ISREG(info.st_mode): text = open(full, 'rb').read().decode('latin1')
            marks = {mark: os.getxattr(full, mark, follow_symlinks=False).hex() for mark in os.listxattr(full, follow_symlinks=False)}
            same = first.setdefault(info.st_ino, full[len(top):].decode('latin1'))
            links = info.st_nlink if not stat.S_ISDIR(info.st_mode) else 0
            seen[full[len(top):].decode('latin1')] = [oct(info.st_mode), info.st_uid, info.st_gid, links, info.st_mtime_ns, text, marks, same]
    return seen
`

export async function python(sandbox: Sandbox, program: string): Promise<unknown> {
  const { stdout, stderr, exitCode } = await sandbox.commands.run(['python3', '-c', PRELUDE + program])
  expect(exitCode, stderr).toBe(0)
  return JSON.parse(stdout)
}

export async function shell(sandbox: Sandbox, script: string): Promise<string> {
  const { stdout, stderr, exitCode } = await sandbox.commands.run(['bash', '-euc', script])
  expect(exitCode, stderr).toBe(0)
  return stdout
}

/** Directories of a workspace, each with a little tree. */
export function makeProject(workspace: string, ...names: string[]): void {
  for (const name of names) {
    mkdirSync(join(workspace, name, 'inner', 'most'), { recursive: true })
    writeFileSync(join(workspace, name, 'top.txt'), `top of ${name}`)
    writeFileSync(join(workspace, name, 'inner', 'most', 'deep.txt'), `deep in ${name}`)
  }
}

/** All names in the workspace but git's. */
export const names = (sandbox: Sandbox) =>
  shell(sandbox, 'find . -name .git -prune -o -print | sort').then((text) => text.trim().split('\n'))

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { Sandbox } from '../../src/index.js'

/** Runs a program under a filter as containers have one, which denies one system call. */
const UNDER_A_FILTER = `
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (6, 0, 0, 0x00050001), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', len(steps), ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.syscall(317, 1, 0, program) == 0
os.execvp(sys.argv[2], sys.argv[2:])
`

/** A sandbox whose engine and tasks are refused a system call (EPERM). */
export async function createUnderFilter(workspace: string, deniedCall: number): Promise<Sandbox> {
  const cli = fileURLToPath(new URL('../../bin/deltabox.js', import.meta.url))
  const create = [String(deniedCall), process.execPath, cli, 'create', '--workspace', workspace]
  const { stdout, stderr } = spawnSync('python3', ['-c', UNDER_A_FILTER, ...create], { encoding: 'utf8' })
  expect(stdout, stderr).toMatch(/^sbx_/)
  return Sandbox.connect(stdout.trim())
}

// What docs/limits.md says of things that are refused, kept or different after a checkpoint, seen with real programs.
import { chmodSync, chownSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { PythonSession, startPython } from '../support/python.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const isRoot = process.getuid?.() === 0
const FOREIGN_UID = 1_000_000

const create = (workspace = state.workspace) => Sandbox.create({ workspace })
const shell = async (sandbox: Sandbox, line: string) => (await sandbox.commands.run(line)).stdout

// Files

test('files of owners that are not mapped are nobody’s, and their modes protect them', async () => {
  // An ordinary user has no files of others but those of the system.
  const workspace = isRoot ? state.workspace : '/usr/share/base-files'
  if (isRoot) {
    writeFileSync(join(workspace, 'foreign'), 'secret\n')
    chmodSync(join(workspace, 'foreign'), 0o640)
    chownSync(join(workspace, 'foreign'), FOREIGN_UID, FOREIGN_UID)
  } else {
    expect(statSync(join(workspace, 'motd')).uid).toBe(0)
  }
  await using sandbox = await create(workspace)
  const name = isRoot ? 'foreign' : 'motd'
  expect(await shell(sandbox, `stat -c '%U %u' ${name}`)).toBe('nobody 65534\n')
  expect((await sandbox.commands.run(`echo x >> ${name}`)).stderr).toMatch(/Permission denied/)
  if (isRoot) expect((await sandbox.commands.run(`cat ${name}`)).stderr).toMatch(/Permission denied/)
})

test('hard links of a file that nobody has open part at the first write after a checkpoint, and not before', async () => {
  await using sandbox = await create()
  const look = () => shell(sandbox, "cat one two three; stat -c '%n %h' one two three")
  await shell(sandbox, 'echo first > one; ln one two; ln one three; echo second >> two')
  const together = 'first\nsecond\n'.repeat(3) + 'one 3\ntwo 3\nthree 3\n'
  expect(await look()).toBe(together)
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.warnings).toEqual([])
  expect(await look()).toBe(together)
  await shell(sandbox, 'echo third >> two')
  const parted = 'first\nsecond\n' + 'first\nsecond\nthird\n' + 'first\nsecond\n' + 'one 3\ntwo 1\nthree 3\n'
  expect(await look()).toBe(parted)
  // What replaces a name, as git, dpkg, rsync and editors do, does not notice.
  await shell(sandbox, 'echo new > temporary; mv temporary three')
  expect(await shell(sandbox, 'cat one')).toBe('first\nsecond\n')
  await sandbox.rollback(checkpoint)
  expect(await look()).toBe(together)
})

test('after a seal, the paths of files in /proc/PID are not those of the volume', async () => {
  await using sandbox = await create()
  await shell(sandbox, 'cp /bin/sleep program; echo text > mapped')
  const program = await sandbox.commands.run(['/workspace/program', '1000'], { background: true })
  const python = await startPython(
    sandbox,
    "import mmap\nfile = open('/workspace/mapped')\nheld = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE)\nfile.close()",
  )
  const look = () =>
    shell(sandbox, `readlink /proc/${program.pid}/exe; grep -o '/.*mapped' /proc/${python.command.pid}/maps`)
  expect(await look()).toBe('/workspace/program\n/workspace/mapped\n')
  await sandbox.checkpoint()
  const after = (await look()).split('\n')
  expect(after[0]).toMatch(/program$/)
  expect(after[1]).toMatch(/mapped$/)
  expect(after.slice(0, 2).filter((path) => path.startsWith('/workspace/'))).toEqual([])
  expect(await python.run('print(bytes(held))')).toBe("b'text\\n'")
})

test('numbers of closed files that were copied up, and devices, change with a seal; those of other files do not', async () => {
  await using sandbox = await create()
  const look = async (name: string) => (await shell(sandbox, `stat -c '%d %i' ${name}`)).trim().split(' ').map(Number)
  await shell(sandbox, 'echo new > made; echo more >> src/main.txt')
  const [made, copied] = [await look('made'), await look('src/main.txt')]
  await sandbox.checkpoint()
  const [madeAfter, copiedAfter] = [await look('made'), await look('src/main.txt')]
  expect(madeAfter[1]).toBe(made[1])
  expect(madeAfter[0]).not.toBe(made[0])
  expect(copiedAfter[1]).not.toBe(copied[1])
})

/** Stands still before a file is opened whose name holds "source", until a file `go` is there. */
const WAITS_BEFORE_OPEN = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
int creat(const char* path, mode_t mode); // fcntl.h declares open(2) in another way
#define WAITING(name, parameters, arguments)                                             \\
  int name parameters {                                                                  \\
    if (strstr(path, "source")) {                                                        \\
      close(creat("/workspace/waits", 0600));                                            \\
      while (access("/workspace/go", F_OK) != 0) usleep(10000);                          \\
    }                                                                                    \\
    return ((int(*) parameters)dlsym(RTLD_NEXT, #name)) arguments;                       \\
  }
WAITING(open, (const char* path, int flags, mode_t mode), (path, flags, mode))
WAITING(open64, (const char* path, int flags, mode_t mode), (path, flags, mode))
WAITING(openat, (int dir, const char* path, int flags, mode_t mode), (dir, path, flags, mode))
WAITING(openat64, (int dir, const char* path, int flags, mode_t mode), (dir, path, flags, mode))
`

test('cp that looked at a file before a checkpoint and opens it afterwards takes it for another one', async () => {
  await using sandbox = await create()
  await sandbox.files.write('wait.c', WAITS_BEFORE_OPEN)
  await shell(sandbox, 'gcc -shared -fPIC -o wait.so wait.c; echo text > source')
  const copy = (to: string) =>
    sandbox.commands.run(['cp', 'source', to], { background: true, envs: { LD_PRELOAD: '/workspace/wait.so' } })
  const waits = () => until('it has looked', async () => (await shell(sandbox, 'ls waits 2>/dev/null')) !== '')
  const undisturbed = await copy('first')
  await waits()
  await shell(sandbox, 'touch go')
  await until('its end', () => !undisturbed.isRunning)
  expect(await shell(sandbox, 'cat first; rm go waits')).toBe('text\n')
  const disturbed = await copy('second')
  await waits()
  await sandbox.checkpoint()
  await shell(sandbox, 'touch go')
  await until('its end', () => !disturbed.isRunning)
  expect(disturbed.stderr).toMatch(/replaced while being copied/)
  expect(await shell(sandbox, 'cat source; ls second 2>&1')).toMatch(/^text\n.*No such file/)
})

test('to rename a name of a file onto another that was linked since the last seal is refused', async () => {
  await using sandbox = await create()
  await shell(sandbox, 'echo text > one')
  await sandbox.checkpoint()
  await shell(sandbox, 'ln one two')
  const python = await startPython(sandbox, 'import os')
  const rename = () => python.run("os.rename('/workspace/one', '/workspace/two')")
  expect(await rename()).toMatch(/^OSError \[Errno 116\]/)
  expect(await shell(sandbox, 'cat one two')).toBe('text\ntext\n')
})

test('fsync returns, on layers that are volatile', async () => {
  await using sandbox = await create()
  const python = await startPython(sandbox, "import os\nfile = open('/workspace/file', 'w')")
  expect(await python.run("file.write('x'); file.flush(); print(os.fsync(file.fileno()))")).toBe('None')
  expect(await shell(sandbox, "grep ' /workspace ' /proc/self/mountinfo")).toMatch(/volatile/)
})

test('to remove an access control list that is not there is an error in a lower layer', async () => {
  await using sandbox = await create()
  await shell(sandbox, 'touch file')
  const python = await startPython(sandbox, 'import os')
  const remove = (name: string) => python.run(`os.removexattr('/workspace/${name}', 'system.posix_acl_access')`)
  expect(await remove('file')).toBe('')
  expect(await remove('src/main.txt')).toMatch(/^OSError \[Errno 61\]/)
})

// Processes

test.each([
  ['gdb', 'gdb -q -nx -batch -ex "shell echo traced > /workspace/traced; sleep 1000" -p $(cat /workspace/pid)'],
  ['strace', 'strace -o /workspace/traced -p $(cat /workspace/pid)'],
])('a process that %s traces is refused', async (_, tracer) => {
  await using sandbox = await create()
  const target = await sandbox.commands.run('echo $$ > /workspace/pid; while :; do sleep 0.05; done', {
    background: true,
  })
  await until('the target', async () => (await shell(sandbox, 'cat pid 2>/dev/null')) !== '')
  const pid = Number(await shell(sandbox, 'cat pid'))
  const tracing = await sandbox.commands.run(tracer, { background: true })
  const traced = () => shell(sandbox, `grep TracerPid /proc/${pid}/status`)
  await until('the tracer', async () => !/\t0\n/.test(await traced()) || !tracing.isRunning)
  expect(tracing.stderr).not.toMatch(/not permitted/)
  await expect(sandbox.checkpoint()).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    data: { details: [{ pid, kind: 'traced' }] },
  })
  expect(target.isRunning).toBe(true)
  await sandbox.commands.run('pkill -KILL -x gdb; pkill -KILL -x strace; pkill -KILL sleep')
  await until('the end of the tracer', async () => /\t0\n/.test(await traced()))
  await sandbox.checkpoint()
})

const SECCOMP_FILTER = `
import ctypes, struct
libc = ctypes.CDLL(None)
allow = ctypes.create_string_buffer(struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 1, ctypes.addressof(allow)))
assert libc.prctl(22, 2, program, 0, 0) == 0
`

test('a process with a seccomp filter of its own is refused', async () => {
  await using sandbox = await create()
  const python = await startPython(sandbox, SECCOMP_FILTER)
  await expect(sandbox.checkpoint()).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    data: { details: [{ pid: python.command.pid, kind: 'seccomp' }] },
  })
  expect(await python.run('print(1 + 1)')).toBe('2')
})

test('no process keeps a sandbox from a rollback: what can’t be captured is ended, and made again where the checkpoint has it', async () => {
  await using sandbox = await create()
  const old = await startPython(sandbox, 'state = "as it was"')
  const checkpoint = await sandbox.checkpoint()
  await old.run(`exec(${JSON.stringify(SECCOMP_FILTER)}); state = "spoilt"`)
  const young = await startPython(sandbox, SECCOMP_FILTER)
  await expect(sandbox.rollback(checkpoint, { strict: true })).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  expect(await young.run('print(1 + 1)')).toBe('2')

  const result = await sandbox.rollback(checkpoint)
  const told = (pid: number) => ({ pid, kind: 'seccomp', reason: expect.stringMatching(/safety checkpoint/) as string })
  expect(result.notRestored).toEqual(expect.arrayContaining([told(old.command.pid), told(young.command.pid)]))
  expect(result.notRestored).toHaveLength(2)
  const again = new PythonSession(await sandbox.commands.connect(old.command.commandId))
  await until('the output so far', () => again.command.stdout.length >= old.command.stdout.length)
  expect(await again.run('print(state)')).toBe('as it was')
  expect(result).toMatchObject({ endedProcesses: 1, restoredProcesses: 1 })
  await expect(young.command.wait()).rejects.toMatchObject({ code: 'ROLLED_BACK' })
  await sandbox.checkpoint({ strict: true })
})

test('a process without a vdso is refused', async () => {
  await using sandbox = await create()
  // Nothing but a system call may follow: reading the clock would be a fault.
  const source = `
import ctypes
libc = ctypes.CDLL(None)
line = [line for line in open('/proc/self/maps') if line.endswith('[vdso]\\n')][0]
start, end = (int(part, 16) for part in line.split()[0].split('-'))
buffer = ctypes.create_string_buffer(1)
calls = [(11, ctypes.c_void_p(start), ctypes.c_size_t(end - start)), (0, 0, buffer, 1), (1, 1, buffer, 1), (231, 0)]
[libc.syscall(*call) for call in calls]
`
  const command = await sandbox.commands.run(['python3', '-c', source], { background: true })
  const maps = () => shell(sandbox, `cat /proc/${command.pid}/maps`)
  await until('the vdso is gone', async () => {
    const text = await maps()
    return text.includes('[stack]') && !text.includes('[vdso]')
  })
  await expect(sandbox.checkpoint()).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    data: { details: [{ pid: command.pid, kind: 'vdso' }] },
  })
  await command.sendStdin('x')
  await until('its end', () => !command.isRunning)
  expect(command.stdout).toBe('x')
})

test('a process whose main thread has ended while others run is refused', async () => {
  await using sandbox = await create()
  const source = `
import ctypes, threading, time
threading.Thread(target=lambda: [time.sleep(0.05) for _ in range(10**6)]).start()
print('ready', flush=True)
ctypes.CDLL(None).syscall(60, 0)
`
  const command = await sandbox.commands.run(['python3', '-c', source], { background: true })
  await until('the program', () => command.stdout === 'ready\n')
  await until('the end of its main thread', async () =>
    /^State:\tZ/m.test(await shell(sandbox, `cat /proc/${command.pid}/task/${command.pid}/status`)),
  )
  await expect(sandbox.checkpoint()).rejects.toMatchObject({ code: 'BUSY' })
  expect((await sandbox.listCheckpoints()).checkpoints).toEqual([])
})

test('clocks go on over a rollback', async () => {
  await using sandbox = await create()
  const python = await startPython(
    sandbox,
    'import time\nclocks = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)',
  )
  const read = async () =>
    (await python.run('print(*[time.clock_gettime(clock) for clock in clocks])')).split(' ').map(Number)
  const checkpoint = await sandbox.checkpoint()
  const before = await read()
  await sandbox.rollback(checkpoint)
  const after = await read()
  for (const [index, value] of before.entries()) expect(after[index]).toBeGreaterThan(value)
})

test('the first checkpoint of a process copies all its memory, the next only what was written', async () => {
  await using sandbox = await create()
  const size = 32 << 20
  const python = await startPython(sandbox, `held = bytearray(b'x' * ${size})`)
  const first = await sandbox.checkpoint()
  await python.run('held[0] = 1')
  const second = await sandbox.checkpoint()
  expect(first.dirtyPages * 4096).toBeGreaterThan(size)
  expect(second.dirtyPages * 4096).toBeLessThan(size / 8)
})

// Descriptors

const FILL_TABLE = (hard: number) => `
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, ${hard}))
held = []
try:
    while True:
        held.append(open('/workspace/file%d' % len(held), 'w+'))
except OSError:
    pass
`

test('a process that has as many files open as it may goes on after a checkpoint and a rollback', async () => {
  await using sandbox = await create()
  const python = await startPython(sandbox, FILL_TABLE(1024))
  await python.run('[print(index, file=file, flush=True) for index, file in enumerate(held)]')
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.warnings).toEqual([])
  await python.run('[file.truncate(0) for file in held]')
  expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
  const read = 'print([int(os.pread(file.fileno(), 10, 0)) for file in held] == list(range(len(held))), len(held) > 50)'
  expect(await python.run(read)).toBe('True True')
  expect(await python.run('print(resource.getrlimit(resource.RLIMIT_NOFILE))')).toBe('(64, 1024)')
})

test('a process whose table is full up to its hard limit is refused, and lives on', async () => {
  await using sandbox = await create()
  const known = await startPython(sandbox, 'import os')
  const first = await sandbox.checkpoint()
  // One that checkpoints have met before, and one that they have not.
  await known.run(`exec(${JSON.stringify(FILL_TABLE(64))})`)
  const refusal = (pid: number) => ({
    code: 'UNSUPPORTED',
    data: { details: [{ pid, kind: 'descriptors' }] },
  })
  await expect(sandbox.checkpoint()).rejects.toMatchObject(refusal(known.command.pid))
  await known.run('[held.pop().close() for _ in range(32)]')
  const unknown = await startPython(sandbox, FILL_TABLE(64))
  await expect(sandbox.checkpoint()).rejects.toMatchObject(refusal(unknown.command.pid))
  expect((await sandbox.listCheckpoints()).checkpoints.map(({ id }) => id)).toEqual([first.id])
  await unknown.run('[held.pop().close() for _ in range(32)]')
  await sandbox.checkpoint()
  for (const python of [known, unknown]) expect(await python.run('print(len(held) > 20)')).toBe('True')
})

// Commands

test('arguments and environment of a command hold 192 KiB together', async () => {
  await using sandbox = await create()
  const fits = await sandbox.commands.run(['printf', '%s', 'x'.repeat(100_000)], { envs: { LONG: 'y'.repeat(90_000) } })
  expect(fits.stdout).toHaveLength(100_000)
  const tooMuch = sandbox.commands.run(['printf', '%s', 'x'.repeat(100_000)], { envs: { LONG: 'y'.repeat(100_000) } })
  await expect(tooMuch).rejects.toMatchObject({ code: 'TOO_LARGE' })
  await expect(sandbox.commands.run(['true', ...Array<string>(8192).fill('')])).rejects.toMatchObject({
    code: 'TOO_LARGE',
  })
})

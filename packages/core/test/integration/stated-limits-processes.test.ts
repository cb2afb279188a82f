// What docs/limits.md says of processes, threads and memory: what of them a rollback does not bring back.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { startFiller, tell } from '../support/filler.js'
import { killOne } from '../support/processes.js'
import { startPython } from '../support/python.js'
import { until, useTestState } from '../support/state.js'
import { createUnderFilter } from '../support/under-filter.js'

const state = useTestState()
const isRoot = process.getuid?.() === 0
const ROUNDS = 25
const SYS_SCHED_GETAFFINITY = 204

const create = () => Sandbox.create({ workspace: state.workspace })
const shell = async (sandbox: Sandbox, line: string) => (await sandbox.commands.run(line)).stdout

// Memory

const MAPPINGS = `
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
def flags(address):
    wanted = False
    for line in open('/proc/self/smaps'):
        if line[0] in '0123456789abcdef': wanted = int(line.split('-')[0], 16) == address
        elif wanted and line.startswith('VmFlags'): return [flag for flag in line.split()[1:] if flag in ('lo', 'dc')]
`

test('a mapping that is mapped anew has its contents, and neither locks nor advice', async () => {
  await using sandbox = await create()
  const python = await startPython(
    sandbox,
    `${MAPPINGS}
held = libc.mmap(None, 65536, 3, 0x22, -1, 0)
ctypes.memmove(held, b'contents', 8)
assert libc.mlock(held, 65536) == 0 and libc.madvise(held, 65536, 10) == 0`,
  )
  expect(await python.run('print(flags(held))')).toBe("['lo', 'dc']")
  const checkpoint = await sandbox.checkpoint({ strict: true })
  await python.run('print(libc.munmap(held, 65536))')
  expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
  expect(await python.run('print(ctypes.string_at(held, 8), flags(held))')).toBe("b'contents' []")
})

test('a mapping whose file has another name by now is mapped anew from what lies at the old one', async () => {
  await using sandbox = await create()
  await sandbox.files.write('mapped', 'first '.repeat(2000))
  const python = await startPython(
    sandbox,
    `${MAPPINGS}
file = open('/workspace/mapped')
held = libc.mmap(None, 8192, 3, 2, file.fileno(), 0)
file.close()
ctypes.memmove(held, b'mine', 4)`,
  )
  await sandbox.checkpoint()
  await shell(sandbox, 'mv mapped renamed')
  await sandbox.files.write('mapped', 'other '.repeat(2000))
  const look = () => python.run('print(ctypes.string_at(held, 6), ctypes.string_at(held + 4098, 6))')
  expect(await look()).toBe("b'minet ' b'first '")
  const checkpoint = await sandbox.checkpoint()
  await python.run('print(libc.munmap(held, 8192))')
  expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
  expect(await look()).toBe("b'minet ' b'other '")
})

test('a mapping of a removed file that was open for writing becomes memory as far as the file goes', async () => {
  await using sandbox = await create()
  await sandbox.files.write('mapped', 'contents')
  const python = await startPython(
    sandbox,
    `${MAPPINGS}
import os
fd = os.open('/workspace/mapped', os.O_RDWR)
held = libc.mmap(None, 3 * 4096, 3, 2, fd, 0)
os.close(fd)
os.unlink('/workspace/mapped')
memory = os.open('/proc/self/mem', os.O_RDONLY)
def look(page):
    try: return os.pread(memory, 8, held + 4096 * page)
    except OSError as error: return error.errno`,
  )
  const both = () => python.run('print(look(0), look(1), look(2))')
  const before = "b'contents' 5 5" // EIO: beyond the end
  expect(await both()).toBe(before)
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.warnings).toMatchObject([{ pid: python.command.pid, kind: 'mapping' }])
  expect(await shell(sandbox, `grep -c mapped /proc/${python.command.pid}/maps`)).toBe('0\n')
  expect(await both()).toMatch(/^b'contents' /)
  const closed = await shell(
    sandbox,
    `grep -A1 "^$(printf %x ${await python.run('print(held)')})-" /proc/${python.command.pid}/maps`,
  )
  expect(closed).toMatch(/ rw-p .*\n.* ---p /)
})

// Threads

const THREAD = (body: string) => `
import ctypes, os, queue, threading
libc = ctypes.CDLL(None, use_errno=True)
asked, told = queue.Queue(), queue.Queue()
def live():
${body.trim().replace(/^/gm, '    ')}
    told.put(threading.get_native_id())
    while True: exec(asked.get())
threading.Thread(target=live, daemon=True).start()
tid = told.get()
def status(field):
    return [line.split()[1] for line in open('/proc/self/task/%d/status' % tid) if line.startswith(field)][0]
`
/** CAP_CHOWN becomes inheritable, and ambient, for this thread alone (a prctl is no matter of the process). */
const RAISE_AMBIENT = `
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.syscall(125, header, data) == 0
data[2] |= 1
assert libc.syscall(126, header, data) == 0 and libc.prctl(47, 2, 0, 0, 0) == 0
`

test('ambient capabilities that a thread alone has are taken for those of the main thread when it is made again', async () => {
  await using sandbox = await create()
  const python = await startPython(sandbox, THREAD(RAISE_AMBIENT))
  const look = "print(status('CapAmb'), status('CapInh'))"
  const both = '0000000000000001 0000000000000001'
  expect(await python.run(look)).toBe(both)
  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
  expect(await python.run(look)).toBe(both)
  await killOne(sandbox, python.command.pid)
  expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
  const status = await shell(sandbox, `cat /proc/${python.command.pid}/task/*/status | grep -E '^Cap(Amb|Inh)'`)
  expect(status.match(/CapInh:\t0+1$/gm)).toHaveLength(1)
  expect(status.match(/CapAmb:\t0+1$/gm)).toBeNull()
})

test('more supplementary groups than 2,048 are not put back, which is reported', async () => {
  await using sandbox = await create()
  const python = await startPython(sandbox, 'import os')
  if (!isRoot) {
    // There is one id inside.
    expect(await python.run('os.setgroups([0])')).toMatch(/^PermissionError/)
    return
  }
  await python.run('os.setgroups(range(1, 2051))')
  const checkpoint = await sandbox.checkpoint()
  await python.run('os.setgroups([5])')
  const { notRestored } = await sandbox.rollback(checkpoint)
  expect(notRestored).toMatchObject([{ pid: python.command.pid, kind: 'groups' }])
  expect(await python.run('print(os.getgroups())')).toBe('[5]')
})

// Processes

test('a process whose program may not be executed any more is made again, and shows its parent’s', async () => {
  await using sandbox = await create()
  await shell(sandbox, 'cp /bin/sleep program')
  const command = await sandbox.commands.run(['/workspace/program', '1000'], { background: true })
  const executable = () => shell(sandbox, `readlink /proc/${command.pid}/exe`)
  expect(await executable()).toBe('/workspace/program\n')
  await shell(sandbox, 'chmod a-x program')
  const checkpoint = await sandbox.checkpoint()
  await killOne(sandbox, command.pid)
  const done = await sandbox.rollback(checkpoint)
  expect(done.restoredProcesses).toBe(1)
  expect(done.notRestored).toMatchObject([{ pid: command.pid, kind: 'executable' }])
  expect(await executable()).not.toMatch(/workspace/)
  expect(await shell(sandbox, `tr '\\0' ' ' < /proc/${command.pid}/cmdline`)).toBe('/workspace/program 1000 ')
})

test('what no call was asked for stays as it is by now: how a process hears of broken memory', async () => {
  await using sandbox = await create()
  const python = await startPython(sandbox, 'import ctypes\nprctl = ctypes.CDLL(None, use_errno=True).prctl')
  const policy = () => python.run('print(prctl(34, 0, 0, 0, 0))') // PR_MCE_KILL_GET
  const before = await policy()
  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect(await python.run('print(prctl(33, 1, 1, 0, 0))')).toBe('0') // PR_MCE_KILL_SET, early
  expect(await policy()).not.toBe(before)
  expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
  expect(await policy()).not.toBe(before)
})

test('what a filter around the sandbox does not let be asked is not put back: the processors of a thread', async () => {
  await using sandbox = await createUnderFilter(state.workspace, SYS_SCHED_GETAFFINITY)
  const python = await startPython(sandbox, 'import os')
  const allowed = () => shell(sandbox, `grep Cpus_allowed: /proc/${python.command.pid}/status`)
  const before = await allowed()
  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect(await python.run('os.sched_setaffinity(0, [0])')).toBe('')
  const after = await allowed()
  if (availableParallelism() > 1) expect(after).not.toBe(before)
  expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
  expect(await allowed()).toBe(after)
})

/** The pid outside of a process of the sandbox: a descendant of its engine that has this number inside. */
function hostPid(enginePid: number, inside: number): number {
  const children = (pid: number): number[] =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  const waiting = children(enginePid)
  for (let pid = waiting.pop(); pid !== undefined; pid = waiting.pop()) {
    const numbers = /^NSpid:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!.split('\t')
    if (numbers.length > 1 && Number(numbers.at(-1)) === inside) return pid
    waiting.push(...children(pid))
  }
  throw new Error(`no process ${inside}`)
}

test('a SIGSTOP that comes while a checkpoint is taken stops its process, sooner or later', async () => {
  await using sandbox = await create()
  const filler = await startFiller(sandbox)
  await tell(filler, 'fill first')
  const pid = hostPid((await sandbox.getInfo()).enginePid, filler.pid)
  for (let round = 0; round < ROUNDS; round++) {
    await tell(filler, `fill ${round}`)
    const taken = sandbox.checkpoint({ strict: true })
    await new Promise((resolve) => setTimeout(resolve, round / 2))
    process.kill(pid, 'SIGSTOP')
    await taken
    await until('it stands', () => /^State:\tT/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))
    process.kill(pid, 'SIGCONT')
  }
  expect(await tell(filler, 'tell')).toMatch(/24/)
})

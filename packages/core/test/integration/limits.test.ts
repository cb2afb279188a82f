// Limits of a sandbox: kept, or refused.
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { DeltaboxError, Sandbox, type Limits } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const create = (limits: Limits) => Sandbox.create({ workspace: state.workspace, limits })

async function python(sandbox: Sandbox, program: string) {
  await sandbox.files.write('/tmp/program.py', program)
  return sandbox.commands.run('python3 /tmp/program.py', { timeoutMs: 50_000 })
}

/** Paths of control groups that carry the sandbox's id. */
function groupsOf(id: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .flatMap((line) => {
      const root = line.split(' ')[4] ?? ''
      return readdirSync(root, { recursive: true })
        .map(String)
        .filter((path) => path.endsWith(`deltabox-${id}`))
        .map((path) => `${root}/${path}`)
    })
}

/** Whether this user could make a control group where it is: then its limits have to work. */
function mayMakeGroups(controller: string): boolean {
  const line = readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .find((text) => text.split(':')[1]?.split(',').includes(controller))
  const mount = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((text) => / - cgroup /.test(text) && text.split(/[ ,]/).includes(controller))
  if (line === undefined || mount === undefined) return false
  try {
    accessSync(`${mount.split(' ')[4] ?? ''}${line.split(':').slice(2).join(':')}`, constants.W_OK)
    return true
  } catch {
    return false
  }
}

async function expectUnsupported(limits: Limits, what: string): Promise<void> {
  const error = await create(limits).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(DeltaboxError)
  expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(what) as string })
}

test('processes: a fork bomb ends at the limit, and the sandbox works on', async () => {
  await using sandbox = await create({ processes: 30 })
  const bomb = `
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60); os._exit(0)
        count += 1
except OSError as error:
    print(count, error.errno)
`
  const { stdout } = await python(sandbox, bomb)
  const [count = '', errno] = stdout.trim().split(' ')
  expect(errno).toBe('11')
  // The shell and python themselves are among the 30.
  expect(Number(count)).toBeGreaterThan(20)
  expect(Number(count)).toBeLessThan(30)
  expect((await sandbox.getInfo()).limits).toEqual({ processes: 30 })
})

test('processes: several users share one bound', async () => {
  await using sandbox = await create({ processes: 30 })
  if (process.getuid?.() !== 0) return expect((await sandbox.getInfo()).limits).toEqual({ processes: 30 })
  const bomb = `
import os, time
total = 0
for uid in (1001, 1002, 1003):
    read, write = os.pipe()
    try: child = os.fork()
    except BlockingIOError: break
    if child == 0:
        os.setuid(uid)
        count = 0
        try:
            while True:
                if os.fork() == 0:
                    os.close(write); time.sleep(60); os._exit(0)
                count += 1
        except OSError: pass
        os.write(write, str(count).encode()); time.sleep(60); os._exit(0)
    os.close(write)
    total += int(os.read(read, 20))
print(total)
`
  const { stdout } = await python(sandbox, bomb)
  expect(Number(stdout)).toBeGreaterThan(15)
  expect(Number(stdout)).toBeLessThan(34)
})

test('open files: each process has so many descriptors', async () => {
  await using sandbox = await create({ openFiles: 64 })
  const opener = `
import os, resource
files = []
try:
    while True: files.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(len(files) + 3, error.errno)
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
except ValueError:
    print("kept")
`
  const { stdout } = await python(sandbox, opener)
  const [first, second] = stdout.split('\n')
  expect(first).toBe('64 24')
  expect(second).toBe('kept')
})

test('memory and processor time: kept by a control group, or refused with what is missing', async () => {
  const limits = { memoryBytes: 64 << 20, cpus: 0.5 }
  if (!mayMakeGroups('memory') && process.getuid?.() !== 0) {
    await expectUnsupported({ memoryBytes: limits.memoryBytes }, 'limits.memoryBytes needs a control group')
    await expectUnsupported({ cpus: limits.cpus }, 'limits.cpus needs a control group')
    return
  }
  const sandbox = await create(limits)
  const { id, enginePid } = await sandbox.getInfo()
  try {
    const hog = await python(sandbox, 'data = [b"x" * 1_000_000 * n for n in range(1, 200)]\nprint("not reached")')
    expect(hog.stdout).toBe('')
    const info = await sandbox.getInfo()
    expect(info.warnings).toContainEqual(expect.stringContaining('because its memory limit was reached'))
    expect(info.memoryBytes).toBeLessThanOrEqual(limits.memoryBytes)
    const spin = `
import time
end = time.monotonic() + 2
while time.monotonic() < end: pass
print(time.process_time() < 1.6)
`
    expect((await python(sandbox, spin)).stdout).toBe('True\n')
    const groups = groupsOf(id)
    expect(groups.length).toBeGreaterThan(0)
    for (const group of groups)
      expect(readFileSync(`${group}/cgroup.procs`, 'utf8').split('\n')).not.toContain(`${enginePid}`)
    const checkpoint = await sandbox.checkpoint()
    await sandbox.rollback(checkpoint)
  } finally {
    await sandbox.kill()
  }
  await until('its control groups are gone', () => groupsOf(id).length === 0)
})

test('output: what a command prints beyond it is dropped, and the command is ended and says why', async () => {
  await using sandbox = await create({ outputBytes: 100_000 })
  expect((await sandbox.getInfo()).limits).toEqual({ outputBytes: 100_000 })
  const ended = { exitCode: null, signal: 'SIGKILL', limit: 'outputBytes', truncated: true }
  let seen = 0
  const flood = await sandbox.commands.run('yes', { onStdoutBytes: ({ length }) => void (seen += length) })
  expect(flood).toMatchObject({ ...ended, timedOut: false })
  expect([flood.stdout, seen]).toEqual(['y\n'.repeat(50_000), 100_000])
  // Both streams together, over the command's life; exactly so much is no harm.
  const both = await sandbox.commands.run('while :; do printf %01000d 1; printf %01000d 2 >&2; done')
  expect(both).toMatchObject(ended)
  expect(both.stdout.length + both.stderr.length).toBe(100_000)
  const exact = await sandbox.commands.run('head -c 60000 /dev/zero; head -c 40000 /dev/zero >&2')
  expect(exact).toMatchObject({ exitCode: 0, limit: null, truncated: false })

  const background = await sandbox.commands.run('yes', { background: true })
  const result = await background.wait()
  expect(result).toMatchObject(ended)
  expect(result.stdout).toHaveLength(100_000)
  let shown = 0
  const terminal = await sandbox.pty.create({ command: ['yes'], onData: ({ length }) => void (shown += length) })
  expect(await terminal.wait()).toEqual({ exitCode: null, signal: 'SIGKILL', limit: 'outputBytes' })
  expect(shown).toBe(100_000)
  expect((await sandbox.commands.list()).map(({ limit }) => limit)).toEqual([
    ...['outputBytes', 'outputBytes', null, 'outputBytes', 'outputBytes'],
  ])
  // Whoever outlives the command, in a session of its own, does not go on printing.
  const leaver = 'setsid sh -c "while echo x; do :; done; echo $? > /tmp/left" & sleep 0.1; exec yes'
  expect(await (await sandbox.commands.run(leaver, { background: true })).wait()).toMatchObject(ended)
  await until('nothing is left', async () => (await sandbox.getInfo()).tasks === 0)
  expect((await sandbox.commands.run('echo on')).stdout).toBe('on\n')
})

test('output: a rollback does not give it back, and another client learns why a command ended', async () => {
  await using sandbox = await create({ outputBytes: 1_000 })
  const shell = await sandbox.commands.run('while read n; do head -c $n /dev/zero | tr "\\0" x; done', {
    background: true,
  })
  await shell.sendStdin('600\n')
  await until('it printed', () => shell.stdout.length === 600)
  const checkpoint = await sandbox.checkpoint()
  await sandbox.rollback(checkpoint)
  await using other = await Sandbox.connect(sandbox.id)
  const watching = await other.commands.connect(shell.commandId)
  await shell.sendStdin('600\n')
  const results = [await shell.wait(), await watching.wait()]
  for (const { stdout, limit } of results) expect([stdout.length, limit]).toEqual([1_000, 'outputBytes'])
})

const filling = (files: string) => `
import os, time
kept = []
for n in range(10_000):
    ${files}
    time.sleep(0.02)
`

test('disk: beyond it all that runs is ended, and nothing is taken until space was made', async () => {
  const diskBytes = 20_000_000
  await using sandbox = await create({ diskBytes })
  const refused = { code: 'NO_SPACE', message: expect.stringContaining('limits.diskBytes is 20000000') as string }
  // One file, at any time.
  expect((await sandbox.commands.run('head -c 30000000 /dev/zero > big')).signal ?? 'SIGXFSZ').toBe('SIGXFSZ')
  expect((await sandbox.files.getInfo('big')).sizeBytes).toBe(diskBytes)
  await sandbox.files.remove('big')
  // Many, also without a name, by one that left its command too.
  const named = filling('os.makedirs("many", exist_ok=True); open(f"many/{n}", "wb").write(bytes(1_000_000))')
  const nameless = filling('f = open("x", "wb"); os.unlink("x"); f.write(bytes(1_000_000)); f.flush(); kept.append(f)')
  expect(await python(sandbox, nameless)).toMatchObject({ signal: 'SIGKILL', exitCode: null, limit: 'diskBytes' })
  const daemon = await sandbox.commands.run('setsid sleep 1000 &')
  expect(daemon.exitCode).toBe(0)
  expect(await python(sandbox, named)).toMatchObject({ signal: 'SIGKILL', limit: 'diskBytes', truncated: false })
  await until('all have ended', async () => (await sandbox.getInfo()).tasks === 0)
  const { warnings, limits } = await sandbox.getInfo()
  expect(limits).toEqual({ diskBytes })
  expect(warnings).toContainEqual(expect.stringContaining('ended because its disk limit was reached'))
  expect(warnings).toContainEqual(expect.stringContaining('commands, checkpoints and writes are refused'))
  await expect(sandbox.commands.run('true')).rejects.toMatchObject(refused)
  await expect(sandbox.checkpoint()).rejects.toMatchObject(refused)
  await expect(sandbox.files.write('more', 'x')).rejects.toMatchObject(refused)
  await sandbox.files.remove('many')
  expect((await sandbox.commands.run('echo on')).stdout).toBe('on\n')

  // What checkpoints hold counts; deleting them, or going back, makes space.
  await sandbox.checkpoint({ name: 'start' })
  await sandbox.files.write('a', Buffer.alloc(15_000_000, 1))
  await sandbox.checkpoint({ name: 'with a' })
  await expect(sandbox.files.write('b', Buffer.alloc(15_000_000, 1))).rejects.toMatchObject(refused)
  await sandbox.rollback('start', { redo: false })
  await expect(sandbox.files.write('b', Buffer.alloc(15_000_000, 1))).rejects.toMatchObject(refused)
  await sandbox.deleteCheckpoint('with a')
  await sandbox.files.write('b', Buffer.alloc(15_000_000, 1))
  await sandbox.rollback('start', { redo: false })
  await sandbox.files.write('c', Buffer.alloc(15_000_000, 1))
})

test('what no machine can keep is refused, and nothing is left behind', async () => {
  await expectUnsupported({ openFiles: 1_073_741_816 }, 'limits.openFiles is 1073741816')
  for (const limits of [
    { processes: 1 },
    { openFiles: 3 },
    { memoryBytes: 1 },
    { cpus: 0.0001 },
    { cpus: -1 },
    { outputBytes: 0 },
  ]) {
    await expect(create(limits), JSON.stringify(limits)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }
  expect(await Sandbox.list()).toEqual([])
})

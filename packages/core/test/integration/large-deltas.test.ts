// Deltas of 16 MiB and more are read, after the pause, from copies of the processes that stand still meanwhile.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { killAll } from '../support/processes.js'
import { startPython } from '../support/python.js'
import { useTestState } from '../support/state.js'

const state = useTestState()
const MIB = 1 << 20
const PAGES_OF_64_MIB = (64 * MIB) / 4096

const create = () => Sandbox.create({ workspace: state.workspace })

test('memory is as it was at the checkpoint, although the program changes it while it is read', async () => {
  await using sandbox = await create()
  // Round after round the thread writes the round's number into one page after the other, so at each moment there is at
  // most one place where neighbours differ, and then by one.
  const python = await startPython(
    sandbox,
    `
import hashlib, os, threading
pages, size = ${PAGES_OF_64_MIB}, 4096
held = bytearray(os.urandom(pages * size))
for page in range(pages): held[page * size] = 0
fixed = hashlib.sha256(b''.join(held[p * size + 1:(p + 1) * size] for p in range(pages))).hexdigest()
running = threading.Event(); running.set()
def write():
    n = 0
    while True:
        n = (n + 1) % 256
        for page in range(pages):
            held[page * size] = n
            if not running.is_set(): running.wait()
threading.Thread(target=write, daemon=True).start()
def look():
    running.clear()
    import time; time.sleep(0.05)
    first = [held[page * size] for page in range(pages)]
    steps = [(a - b) % 256 for a, b in zip(first, first[1:]) if a != b]
    is_fixed = fixed == hashlib.sha256(b''.join(held[p * size + 1:(p + 1) * size] for p in range(pages))).hexdigest()
    running.set()
    return 'whole' if steps in ([], [1]) and is_fixed else ('torn', steps[:9], is_fixed)
`,
  )
  expect(await python.run('print(look())')).toBe('whole')
  const first = await sandbox.checkpoint({ strict: true })
  expect(first.parkedPages).toBeGreaterThanOrEqual(PAGES_OF_64_MIB)
  expect(first.dirtyPages).toBeGreaterThan(first.parkedPages)
  expect(await python.run('print(look())')).toBe('whole')
  const second = await sandbox.checkpoint({ strict: true })
  expect(second.parkedPages).toBeGreaterThan(0)
  for (const checkpoint of [first, second, first]) {
    await python.run('held[4096 * 7 + 5] ^= 1')
    await sandbox.rollback(checkpoint, { strict: true })
    expect(await python.run('print(look())')).toBe('whole')
  }
  await killAll(sandbox)
  await sandbox.rollback(second, { strict: true })
  const made = await sandbox.commands.connect(python.command.commandId)
  const from = made.stdout.length
  await made.sendStdin('print(look())\n')
  await expect.poll(() => made.stdout.slice(from), { timeout: 20_000 }).toBe('whole\ndone\n')
})

test('the program sees no child and no signal', async () => {
  await using sandbox = await create()
  const python = await startPython(
    sandbox,
    `
import os, signal
held = bytearray(os.urandom(${32 * MIB}))
signals = []
signal.signal(signal.SIGCHLD, lambda *_: signals.append(1))
def children():
    try:
        return os.waitpid(-1, os.WNOHANG | 0x40000000)  # __WALL
    except ChildProcessError:
        return 'no child'
`,
  )
  const { parkedPages } = await sandbox.checkpoint({ strict: true })
  expect(parkedPages).toBeGreaterThan(0)
  expect(await python.run('print(children(), signals)')).toBe('no child []')
  const running = (await sandbox.commands.run('ls -d /proc/[0-9]*')).stdout.trim().split('\n')
  // init, Python, and the shell of this command with its ls
  expect(running.length).toBeLessThanOrEqual(4)
})

test('a checkpoint whose copy is killed is taken again, without one', async () => {
  await using sandbox = await create()
  const python = await startPython(
    sandbox,
    `import hashlib, os\nheld = bytearray(os.urandom(${256 * MIB}))\nprint(hashlib.sha256(held).hexdigest())`,
  )
  const digest = /^[0-9a-f]{64}/.exec(python.command.stdout)?.[0]
  const killer = await startPython(
    sandbox,
    `
import os, threading
def numbers(): return {int(name) for name in os.listdir('/proc') if name.isdigit()}
killed = []
def kill_all_new():
    known = numbers()
    while not killed:
        for pid in numbers() - known:
            try:
                if open(f'/proc/{pid}/comm').read() != 'python3\\n': continue
                os.kill(pid, 9)
                killed.append(pid)
            except OSError: pass
threading.Thread(target=kill_all_new, daemon=True).start()
`,
  )
  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect(await killer.run('print(len(killed))')).toBe('1')
  expect(checkpoint.parkedPages).toBe(0)
  expect(checkpoint.dirtyPages).toBeGreaterThanOrEqual((256 * MIB) / 4096)
  await python.run('held[:1 << 20] = bytes(1 << 20)')
  await sandbox.rollback(checkpoint, { strict: true })
  expect(await python.run('print(hashlib.sha256(held).hexdigest())')).toBe(digest)
})

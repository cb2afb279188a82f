// Large files that are open for writing: copied and compared while tasks run, where the file system does not share
// blocks, and right whatever is written meanwhile.
import { statfsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { killAll } from '../support/processes.js'
import { PythonSession, startPython } from '../support/python.js'
import { useTestState } from '../support/state.js'

const state = useTestState()
const MIB = 1 << 20
const ROUNDS = 30
const SHARING = new Set([0x58465342, 0x9123683e]) // XFS, Btrfs

const create = () => Sandbox.create({ workspace: state.workspace })
const sharesBlocks = () => SHARING.has(statfsSync(state.stateDir).type)
// On tmpfs they do not tell what was written through mappings: nothing is copied ahead, and what may have been is compared.
const timesTell = () => statfsSync(state.stateDir).type !== 0x01021994

test('nothing is copied in the pause of a file that rests, and only what was written of one that does not', async () => {
  await using sandbox = await create()
  const python = await startPython(
    sandbox,
    `
import os
held = os.open('data', os.O_RDWR | os.O_CREAT)
os.write(held, os.urandom(${8 * MIB}))
def edit(n): os.pwrite(held, b'%d' % n, 5 * ${MIB})
def look(): print(os.pread(held, 2, 5 * ${MIB}).decode())
`,
  )
  const copied = sharesBlocks() ? 0 : 8 * MIB
  const ahead = timesTell() ? copied : 0
  // Nobody knew of it: the pause in which it is found is broken off.
  const first = await sandbox.checkpoint({ strict: true })
  expect(first).toMatchObject({ copiedOpenFileBytes: copied, copiedAheadBytes: ahead })
  await python.run('edit(11)')
  const second = await sandbox.checkpoint({ strict: true })
  expect(second).toMatchObject({ copiedOpenFileBytes: copied, copiedAheadBytes: ahead })
  expect(await sandbox.checkpoint({ strict: true })).toMatchObject({ copiedOpenFileBytes: 0, copiedAheadBytes: 0 })
  await python.run('edit(22)')
  const back = await sandbox.rollback(second, { strict: true })
  expect(back).toMatchObject({ copiedOpenFileBytes: copied + 4096, copiedAheadBytes: ahead })
  await python.run('look()').then((text) => expect(text).toBe('11'))
  await sandbox.rollback(first, { strict: true })
  await python.run('edit(33); look()').then((text) => expect(text).toBe('33'))
  await sandbox.rollback(second, { strict: true })
  await python.run('look()').then((text) => expect(text).toBe('11'))
})

test('files that rest are not copied again, also while layers are merged', async () => {
  await using sandbox = await create()
  const python = await startPython(
    sandbox,
    `
import os
resting = os.open('resting', os.O_RDWR | os.O_CREAT)
os.write(resting, os.urandom(${MIB}))
edited = os.open('edited', os.O_RDWR | os.O_CREAT)
def edit(n): os.pwrite(edited, b'%d' % n, 0)
def look(): print(os.pread(edited, 9, 0).decode(), len(os.pread(resting, 2 * ${MIB}, 0)))
`,
  )
  const checkpoints = []
  for (let round = 10; round < 50; round++) {
    await python.run(`edit(${round})`)
    checkpoints.push(await sandbox.checkpoint({ strict: true }))
  }
  for (const { copiedOpenFileBytes } of checkpoints.slice(1)) expect(copiedOpenFileBytes).toBeLessThanOrEqual(4096)
  for (const index of [3, 39, 0, 20, 38]) {
    const { copiedOpenFileBytes } = await sandbox.rollback(checkpoints[index]!, { strict: true })
    expect(copiedOpenFileBytes, `to ${index}`).toBeLessThanOrEqual(2 * 4096)
    expect(await python.run('look()')).toBe(`${10 + index} ${MIB}`)
  }
})

test('an open file has the names of the checkpoint again, one inode under all of them, also from merged layers', async () => {
  await using sandbox = await create()
  const python = await startPython(
    sandbox,
    `
import os
os.mkdir('dir')
held = os.open('dir/held', os.O_RDWR | os.O_CREAT)
def write(n): os.pwrite(held, b'%02d' % n, 0)
def names():
    found = [os.path.join(top, name) for top, _, names in os.walk('.') for name in names]
    print(*sorted(f'{path}={open(path).read()}' for path in found if os.stat(path).st_ino == os.fstat(held).st_ino))
def link(n): os.link('dir/held', f'{n}')
def unlink(name): os.unlink(name)
`,
  )
  const known: [string, string][] = []
  const keep = async (id: string) => known.push([id, await python.run('names()')])
  for (let round = 10; round < 50; round++) {
    await python.run(`write(${round})`)
    if (round % 10 === 0) await python.run(`link(${round})`)
    if (round === 45) await python.run("unlink('10'); unlink('20'); os.rename('30', 'dir/moved')")
    await keep((await sandbox.checkpoint({ strict: true })).id)
  }
  expect(known[39]![1]).toBe('./40=49 ./dir/held=49 ./dir/moved=49')
  expect(known[34]![1]).toBe('./10=44 ./20=44 ./30=44 ./40=44 ./dir/held=44')
  for (const index of [34, 39, 0, 12, 36, 3]) {
    await python.run(`write(99); link(99)`)
    const names = await python.run('names()')
    const { safetyCheckpoint } = await sandbox.rollback(known[index]![0], { strict: true })
    expect(await python.run('names()'), `to ${index}`).toBe(known[index]![1])
    await sandbox.rollback(safetyCheckpoint!, { strict: true })
    expect(await python.run('names()'), `back from ${index}`).toBe(names)
    await sandbox.rollback(known[index]![0], { strict: true })
    expect(await python.run('names()'), `to ${index} once more`).toBe(known[index]![1])
  }
})

// The writer keeps beside the file, in memory, what it wrote: after each rollback both have to be the same.
const WRITERS = {
  'by write(2), in small and large pieces': `
fd = os.open('data', os.O_RDWR)
def step():
    at = random.randrange(size - 4096)
    data = os.urandom(random.choice([1, 4096, 300_000]))[:size - at]
    os.pwrite(fd, data, at)
    held[at:at + len(data)] = data
    time.sleep(random.choice([0, 0, 0.005]))`,
  'through mappings that come and go': `
fd = os.open('data', os.O_RDWR)
def step():
    with mmap.mmap(fd, size) as mapped:
        for n in range(2000):
            for page in range(0, size, 65536):
                mapped[page] = held[page] = n % 256
    time.sleep(0.004)`,
  'by direct I/O': `
fd = os.open('data', os.O_RDWR | os.O_DIRECT)
page = mmap.mmap(-1, 65536)
def step():
    at = random.randrange(size // 65536) * 65536
    page[:] = os.urandom(65536)
    os.pwritev(fd, [page], at)
    held[at:at + 65536] = page[:]
    time.sleep(random.choice([0, 0.005]))`,
  'shorter and longer': `
fd = os.open('data', os.O_RDWR)
def step():
    global held
    size = random.randrange(${MIB}, 4 * ${MIB})
    os.ftruncate(fd, size)
    held = (held + bytes(size))[:size]
    data = os.urandom(8192)
    os.pwrite(fd, data, size)
    held += data`,
}

describe('a file that is written all the time is at each checkpoint what the writer knows of it', () => {
  test.each(Object.entries(WRITERS))('%s', async (_, step) => {
    await using sandbox = await create()
    const python = await startWriter(sandbox, step)
    const checkpoints = []
    for (let round = 0; round < ROUNDS; round++) {
      checkpoints.push(await sandbox.checkpoint({ strict: true }))
      await python.run('time.sleep(random.random() / 50)')
      const target = round % 3 === 2 ? checkpoints[(round * 7) % checkpoints.length]! : checkpoints.at(-1)!
      await sandbox.rollback(target, { strict: true, redo: round % 2 === 0 })
      expect(await python.run('look()'), `round ${round}`).toBe('the same')
    }
    await killAll(sandbox)
    for (const target of [checkpoints[1]!, checkpoints.at(-1)!, checkpoints[9]!]) {
      await sandbox.rollback(target, { strict: true })
      const again = new PythonSession(await sandbox.commands.connect(python.command.commandId))
      expect(await again.run('look()'), target.id).toBe('the same')
    }
  })
})

function startWriter(sandbox: Sandbox, step: string): Promise<PythonSession> {
  return startPython(
    sandbox,
    `
import mmap, os, random, threading, time
size = 4 * ${MIB}
held = bytearray(os.urandom(size))
with open('data', 'wb') as file: file.write(held)
${step}
running, resting = threading.Event(), threading.Event()
running.set()
def write():
    while True:
        if not running.is_set():
            resting.set()
            running.wait()
            resting.clear()
        step()
threading.Thread(target=write, daemon=True).start()
def look():
    running.clear()
    resting.wait()
    with open('data', 'rb') as file: found = file.read()
    differs = [at for at in range(0, max(len(found), len(held)), 4096) if found[at:at + 4096] != held[at:at + 4096]]
    print('the same' if not differs else f'{len(differs)} pages differ, of {len(found)} bytes, {len(held)} held')
    running.set()
`,
  )
}

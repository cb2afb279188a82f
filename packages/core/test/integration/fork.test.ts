// Sandboxes that begin from a checkpoint of another one.
import { existsSync, openSync, readdirSync, writeSync, closeSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox, type CommandHandle } from '../../src/index.js'
import { sandboxDirs, until, useTestState } from '../support/state.js'

const state = useTestState()

/** Counts, answers, and keeps a file open and a thread running. */
const COUNTER = `
import os, sys, threading, time
threading.Thread(target=lambda: time.sleep(1e6), daemon=True).start()
ballast, count = bytearray(os.urandom(8 << 20)), 0
log = open('/workspace/log', 'a')
for line in sys.stdin:
    count += 1
    log.write(line)
    log.flush()
    print(count, os.getpid(), line.strip(), sum(ballast[::4096]), flush=True)
`

async function startCounter(sandbox: Sandbox): Promise<CommandHandle> {
  await sandbox.files.write('/root/counter.py', COUNTER)
  return sandbox.commands.run(['python3', '-u', '/root/counter.py'], { background: true })
}

async function tell(counter: CommandHandle, word: string): Promise<string> {
  const from = counter.stdout.length
  await counter.sendStdin(`${word}\n`)
  await until('an answer', () => counter.stdout.endsWith('\n') && counter.stdout.length > from)
  return counter.stdout.slice(from).trim()
}

const counterIn = (fork: Sandbox, counter: CommandHandle) => fork.commands.connect(counter.commandId)

test('processes live on in each fork, with their pids, apart from each other', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace, metadata: { name: 'lender' } })
  const counter = await startCounter(sandbox)
  const [one, pid, , sum] = (await tell(counter, 'first')).split(' ')
  expect(one).toBe('1')
  const { checkpoint, sandboxes, failures } = await sandbox.fork({ count: 3, metadata: { name: 'fork' } })
  expect(failures).toEqual([])
  expect(sandboxes).toHaveLength(3)
  expect(await tell(counter, 'lender')).toBe(`2 ${pid} lender ${sum}`)
  for (const [index, fork] of sandboxes.entries()) {
    expect(await fork.getInfo()).toMatchObject({ head: checkpoint, tasks: 1, warnings: [], metadata: { name: 'fork' } })
    expect(await fork.commands.list()).toMatchObject([{ commandId: counter.commandId, running: true }])
    expect(await tell(await counterIn(fork, counter), `fork${index}`)).toBe(`2 ${pid} fork${index} ${sum}`)
    expect(await fork.files.read('/workspace/log')).toBe(`first\nfork${index}\n`)
  }
  expect(await sandbox.files.read('/workspace/log')).toBe('first\nlender\n')
  expect((await Sandbox.list()).map(({ metadata }) => metadata['name'])).toEqual(['lender', 'fork', 'fork', 'fork'])
  for (const fork of sandboxes) await fork.kill()
})

test('after a fork, or a rollback over a kill, a checkpoint copies what was written since and not what came back', async () => {
  const FEW_PAGES = 1000
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const counter = await startCounter(sandbox)
  const [, pid, , sum] = (await tell(counter, 'first')).split(' ')
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.dirtyPages).toBeGreaterThan(2048) // 8 MiB are in use

  const [fork] = (await sandbox.fork({ from: checkpoint })).sandboxes
  const counters = [{ of: fork as Sandbox, started: await counterIn(fork as Sandbox, counter) }]
  await sandbox.commands.run('kill -9 -1')
  await sandbox.rollback(checkpoint)
  counters.push({ of: sandbox, started: await counterIn(sandbox, counter) })
  for (const { of, started } of counters) {
    expect(await tell(started, 'second')).toBe(`2 ${pid} second ${sum}`)
    const next = await of.checkpoint()
    expect(next.dirtyPages).toBeLessThan(FEW_PAGES)
    await of.commands.run('kill -9 -1')
    await of.rollback(next)
    expect(await tell(await counterIn(of, counter), 'third')).toBe(`3 ${pid} third ${sum}`)
  }
  await fork?.kill()
})

test('a fork has checkpoints and forks of its own, and outlives those before it', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  const counter = await startCounter(sandbox)
  const [, pid, , sum] = (await tell(counter, 'first')).split(' ')
  const { sandboxes } = await sandbox.fork()
  const child = sandboxes[0]!
  const inChild = await counterIn(child, counter)
  await tell(inChild, 'second')
  const taken = await child.checkpoint({ strict: true })
  const { sandboxes: grandchildren } = await child.fork({ from: taken })
  const grandchild = grandchildren[0]!
  await sandbox.kill()
  await child.kill()
  expect((await Sandbox.list()).map(({ id }) => id)).toEqual([grandchild.id])
  await expect(Sandbox.connect(sandbox.id)).rejects.toMatchObject({ code: 'SANDBOX_NOT_FOUND' })
  const inGrandchild = await counterIn(grandchild, counter)
  expect(await tell(inGrandchild, 'third')).toBe(`3 ${pid} third ${sum}`)
  const before = await grandchild.checkpoint()
  expect(await tell(inGrandchild, 'fourth')).toBe(`4 ${pid} fourth ${sum}`)
  await grandchild.rollback(before, { strict: true })
  expect(await tell(inGrandchild, 'again')).toBe(`4 ${pid} again ${sum}`)
  expect(await grandchild.files.read('/workspace/log')).toBe('first\nsecond\nthird\nagain\n')
  await grandchild.rollback(taken, { strict: true })
  expect(await tell(inGrandchild, 'thrice')).toBe(`3 ${pid} thrice ${sum}`)
  await grandchild.kill()
  // The last one takes the layers of all with it.
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

test('forks that end all at once take what their lender left with them, whoever comes first', async () => {
  for (let round = 0; round < 4; round++) {
    const sandbox = await Sandbox.create({ workspace: state.workspace })
    const { sandboxes } = await sandbox.fork({ count: 4 })
    await sandbox.kill()
    await Promise.all(sandboxes.map((fork) => fork.kill()))
    expect(sandboxDirs(state.stateDir)).toEqual([])
  }
})

test('without processes a fork has the files; what is deleted in the lender stays with it', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.files.write('/workspace/src/main.txt', 'changed')
  const kept = await sandbox.checkpoint({ name: 'kept' })
  await sandbox.commands.run('rm -r /workspace/src; mkdir /workspace/src; echo other > /workspace/src/main.txt')
  const { sandboxes } = await sandbox.fork({ from: 'kept' })
  await using fork = sandboxes[0]!
  await sandbox.deleteCheckpoint(kept)
  for (let n = 0; n < 12; n++) {
    await sandbox.files.write('/workspace/number', `${n}`)
    await sandbox.checkpoint()
  }
  expect(await fork.files.read('/workspace/src/main.txt')).toBe('changed')
  await fork.rollback('kept')
  expect(await fork.files.read('/workspace/src/main.txt')).toBe('changed')
  await expect(fork.rollback('cp-9')).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
})

test('a fork whose engine was killed comes back with its files, though its lender is gone', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.files.write('/workspace/of-the-lender', 'here')
  const { sandboxes } = await sandbox.fork()
  const fork = sandboxes[0]!
  await fork.files.write('/workspace/of-the-fork', 'here, too')
  await sandbox.kill()
  process.kill((await fork.getInfo()).enginePid, 'SIGKILL')
  await using again = await Sandbox.connect(fork.id)
  expect(await again.files.read('/workspace/of-the-lender')).toBe('here')
  expect(await again.files.read('/workspace/of-the-fork')).toBe('here, too')
})

test('a damaged page is named, the fork is not made, and nothing is left of it', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const counter = await startCounter(sandbox)
  await tell(counter, 'first')
  const { checkpoint, sandboxes } = await sandbox.fork()
  await sandboxes[0]!.kill()
  const pages = join(state.stateDir, 'sandboxes', sandbox.id, 'store', 'pages')
  const file = openSync(join(pages, readdirSync(pages)[0]!), 'r+')
  writeSync(file, 'damage', 40_960)
  closeSync(file)
  await expect(sandbox.fork({ from: checkpoint, count: 2 })).rejects.toMatchObject({
    code: 'DAMAGED',
    message: expect.stringMatching(/page file 1 is damaged: the checksum of page 10/) as string,
  })
  expect(sandboxDirs(state.stateDir)).toEqual([sandbox.id])
  // It has them in memory.
  await sandbox.rollback(checkpoint, { strict: true })
  expect(await tell(counter, 'second')).toMatch(/^2 /)
})

test('wrong calls are refused, and an aborted one leaves nothing', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await expect(sandbox.fork({ count: 0 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(sandbox.fork({ from: 'nothing' })).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
  await expect(sandbox.fork({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' })
  const controller = new AbortController()
  const forking = sandbox.fork({ count: 4, signal: controller.signal })
  await until('a fork is being made', () => sandboxDirs(state.stateDir).length > 1)
  controller.abort()
  await expect(forking).rejects.toMatchObject({ code: 'ABORTED' })
  expect(sandboxDirs(state.stateDir)).toEqual([sandbox.id])
  expect(existsSync(join(state.stateDir, 'sandboxes', sandbox.id, 'info.json'))).toBe(true)
})

test('a checkpoint of another sandbox is refused, but for the one that a fork began with', async () => {
  await using one = await Sandbox.create({ workspace: state.workspace })
  await using other = await Sandbox.create({ workspace: state.workspace })
  const base = await one.checkpoint()
  await other.checkpoint()
  await other.files.write('/workspace/work', 'mine')
  const foreign = { code: 'INVALID_ARGUMENT', message: expect.stringContaining(one.id) as string }
  await expect(other.rollback(base)).rejects.toMatchObject(foreign)
  await expect(other.fork({ from: base })).rejects.toMatchObject(foreign)
  await expect(other.deleteCheckpoint((await one.listCheckpoints()).checkpoints[0]!)).rejects.toMatchObject(foreign)
  expect(await other.files.read('/workspace/work')).toBe('mine')

  const { sandboxes } = await one.fork({ from: base, count: 2 })
  const [first, second] = sandboxes
  const own = await first!.checkpoint()
  await second!.checkpoint()
  await expect(second!.rollback(own)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  expect((await second!.rollback(base)).checkpoint).toBe(base.id)
  for (const fork of sandboxes) await fork.kill()
})

// Guests: small programs that verify one claim each from inside, first without any checkpoint, then in flavours.
// GUEST=name runs one guest alone.
import { expect, test } from 'vitest'
import { changeAll, createWithGuests, failures, Guest, guests, startAll } from '../support/guests.js'
import { killAll, killOne, processesOf } from '../support/processes.js'
import { until, useTestState } from '../support/state.js'

const ROLLBACKS = 10
const PAUSE_MS = 100

const state = useTestState()
const isAboutTasks = (name: string) => name.startsWith('tasks_')

const namesOf = (lines: string[]) => lines.map((line) => line.replace(/: .*/s, ''))

test('without a checkpoint: each guest holds when nothing changed, and notices the change', async () => {
  await using sandbox = await createWithGuests(state.workspace)
  expect(await failures(await startAll(sandbox, guests))).toEqual([])
  const changed = await startAll(sandbox, guests)
  await changeAll(changed)
  expect(namesOf(await failures(changed))).toEqual(guests)
})

test.each(guests)('alone, once: %s', async (name) => {
  await using sandbox = await createWithGuests(state.workspace)
  const all = await startAll(sandbox, [name])
  const checkpoint = await sandbox.checkpoint({ strict: true })
  await changeAll(all)
  const done = await sandbox.rollback(checkpoint, { strict: true })
  expect(done.notRestored).toEqual([])
  expect(await failures(all)).toEqual([])
})

test('all together, ten rollbacks', async () => {
  await using sandbox = await createWithGuests(state.workspace)
  const all = await startAll(sandbox, guests)
  const checkpoint = await sandbox.checkpoint()
  for (let round = 1; round <= ROLLBACKS; round++) {
    await changeAll(all)
    expect((await sandbox.rollback(checkpoint, { redo: round % 3 === 0 })).notRestored, `round ${round}`).toEqual([])
    expect(await failures(all), `round ${round}`).toEqual([])
    await sandbox.rollback(checkpoint, { redo: false })
  }
})

async function killAndMakeAgain(names: string[], rounds: number): Promise<void> {
  await using sandbox = await createWithGuests(state.workspace)
  const all = await startAll(sandbox, names)
  const checkpoint = await sandbox.checkpoint()
  for (let round = 1; round <= rounds; round++) {
    await changeAll(all)
    await killAll(sandbox)
    expect((await sandbox.rollback(checkpoint)).notRestored, `round ${round}`).toEqual([])
    await Promise.all(all.map((guest) => guest.reconnect(sandbox)))
    expect(await failures(all), `round ${round}`).toEqual([])
    await sandbox.rollback(checkpoint)
  }
}

test.each(guests)('killed and made again: %s', (name) => killAndMakeAgain([name], 1))

test('all together, killed and made again, thrice', () => killAndMakeAgain(guests, 3))

test.each(guests)('each of its processes killed alone: %s', async (name) => {
  await using sandbox = await createWithGuests(state.workspace)
  const guest = await Guest.start(sandbox, name)
  const checkpoint = await sandbox.checkpoint()
  for (const pid of await processesOf(sandbox)) {
    await killOne(sandbox, pid)
    expect((await sandbox.rollback(checkpoint)).notRestored, `pid ${pid}`).toEqual([])
    await guest.reconnect(sandbox)
    expect(await failures([guest]), `pid ${pid}`).toEqual([])
    await sandbox.rollback(checkpoint)
  }
})

async function forkAndGoOn(names: string[], count: number): Promise<void> {
  await using sandbox = await createWithGuests(state.workspace)
  const all = await startAll(sandbox, names)
  const checkpoint = await sandbox.checkpoint()
  await changeAll(all)
  const { sandboxes: forks } = await sandbox.fork({ from: checkpoint, count })
  expect(forks).toHaveLength(count)
  for (const [index, fork] of forks.entries()) {
    expect((await fork.getInfo()).warnings.filter((warning) => warning.includes('not brought over'))).toEqual([])
    const forked = await Promise.all(all.map((guest) => guest.in(fork)))
    if (index === count - 1) {
      // Some verdicts use up what they look at.
      await changeAll(forked)
      expect((await fork.rollback(checkpoint)).notRestored).toEqual([])
    }
    expect(await failures(forked)).toEqual([])
    await fork.kill()
  }
}

/** They remember the inode number of a file that was open for writing, of which a fork has a copy. */
const notInForks = ['files_kept', 'sqlite_database']
const forkable = guests.filter((name) => !notInForks.includes(name))

test.each(forkable)('lives on in a fork: %s', (name) => forkAndGoOn([name], 1))

test('all together, in two forks', () => forkAndGoOn(forkable, 2))

test('all together, to the grandparent, through every generation', async () => {
  await using sandbox = await createWithGuests(state.workspace)
  const all = await startAll(sandbox, guests)
  await sandbox.checkpoint({ name: 'grandparent' })
  await sandbox.checkpoint({ name: 'same' })
  await changeAll(all)
  await sandbox.checkpoint({ name: 'parent' })
  await changeAll(all)
  await sandbox.checkpoint({ name: 'child' })
  await changeAll(all)
  await sandbox.rollback('grandparent')
  expect(await failures(all)).toEqual([])
  await sandbox.rollback('same')
  expect(await failures(all)).toEqual([])
})

test('all together, from sibling to sibling', async () => {
  const names = guests.filter((name) => !isAboutTasks(name))
  await using sandbox = await createWithGuests(state.workspace)
  const all = await startAll(sandbox, names)
  await sandbox.checkpoint({ name: 'root' })
  await changeAll(all)
  await sandbox.checkpoint({ name: 'changed' })
  await sandbox.rollback('root')
  await sandbox.checkpoint({ name: 'unchanged' })
  for (let round = 1; round <= 3; round++) {
    await sandbox.rollback('changed')
    expect(namesOf(await failures(all)), `round ${round}`).toEqual(names)
    await sandbox.rollback('unchanged')
    expect(await failures(all), `round ${round}`).toEqual([])
  }
})

test('what a command printed is never taken back', async () => {
  await using sandbox = await createWithGuests(state.workspace)
  const bash = await sandbox.commands.run(['bash', '--norc'], { background: true })
  await bash.sendStdin('echo before\n')
  await until('the first line', () => bash.stdout === 'before\n')
  const checkpoint = await sandbox.checkpoint()
  await bash.sendStdin('echo after\n')
  await until('the second line', () => bash.stdout === 'before\nafter\n')
  await sandbox.rollback(checkpoint)
  await bash.sendStdin('echo again\n')
  await until('the third line', () => bash.stdout === 'before\nafter\nagain\n')
})

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS))

test('a sleep of 2 s with a checkpoint every 100 ms ends', async () => {
  await using sandbox = await createWithGuests(state.workspace)
  const sleeper = await Guest.start(sandbox, 'sleep')
  for (let count = 0; count < 15; count++) {
    await sandbox.checkpoint()
    await pause()
  }
  expect(await sleeper.verdict()).toBe('ok')
})

test('a rollback into a sleep that several checkpoints interrupted goes on sleeping, and ends', async () => {
  await using sandbox = await createWithGuests(state.workspace)
  const sleeper = await Guest.start(sandbox, 'sleep')
  const names = ['first', 'second', 'third']
  for (const name of names) {
    await sandbox.checkpoint({ name })
    await pause()
  }
  await sleeper.change()
  for (const name of names) {
    await sandbox.rollback(name)
    expect(await sleeper.verdict(), name).toBe('ok')
  }
})

test.each(['signal', 'executable-memory'])('a checkpoint refuses what it can not keep: %s', async (kind) => {
  await using sandbox = await createWithGuests(state.workspace)
  const guest = await Guest.start(sandbox, 'unsupported', [kind])
  await expect(sandbox.checkpoint()).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    data: { details: [{ pid: guest.command.pid, kind }] },
  })
  expect((await sandbox.listCheckpoints()).checkpoints).toEqual([])
  await guest.change()
  expect(await sandbox.files.read('/workspace/changed')).toBe('')
})

test.each(['socket'])('a checkpoint reports what it does not keep, and strict refuses: %s', async (kind) => {
  await using sandbox = await createWithGuests(state.workspace)
  const guest = await Guest.start(sandbox, 'unsupported', [kind])
  const notice = { pid: guest.command.pid, kind }
  const refused = sandbox.checkpoint({ strict: true })
  await expect(refused).rejects.toMatchObject({
    code: 'STRICT',
    message: expect.stringContaining(`: ${kind} of pid ${notice.pid}, `) as string,
  })
  expect((await sandbox.listCheckpoints()).checkpoints).toEqual([])
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.warnings).toContainEqual(expect.objectContaining(notice))
  await guest.change()
  await sandbox.rollback(checkpoint)
  await expect(sandbox.files.read('/workspace/changed')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  expect(await guest.verdict()).toBe('ok')
})

test('a strict rollback that could not restore everything changes nothing', async () => {
  await using sandbox = await createWithGuests(state.workspace)
  const guest = await Guest.start(sandbox, 'unsupported', ['deleted-directory'])
  const checkpoint = await sandbox.checkpoint()
  await guest.change()
  await expect(sandbox.rollback(checkpoint, { strict: true })).rejects.toMatchObject({ code: 'STRICT' })
  expect(await sandbox.files.read('/workspace/changed')).toBe('')
  expect((await sandbox.rollback(checkpoint)).notRestored).toMatchObject([
    { pid: guest.command.pid, kind: 'deleted-file' },
  ])
})

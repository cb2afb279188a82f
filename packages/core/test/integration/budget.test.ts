// One bound of memory for the checkpoints of all sandboxes of a state directory; pinned ones.
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { getHotBudget, Sandbox, setHotBudget, type CommandHandle } from '../../src/index.js'
import { FILLED_BYTES, startFiller, tell } from '../support/filler.js'
import { until, useTestState } from '../support/state.js'

/** Images of all of them go to a disk that others use, too. */
const WRITTEN_MS = 40_000

const state = useTestState()
const cli = fileURLToPath(new URL('../../bin/deltabox.js', import.meta.url))

const deltabox = (...args: string[]) => spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8' })

/** A sandbox whose checkpoints each hold other 8 MiB. */
class Filled {
  readonly said: string[] = []
  readonly ids: string[] = []

  private constructor(
    readonly sandbox: Sandbox,
    readonly filler: CommandHandle,
  ) {}

  static async create(): Promise<Filled> {
    const sandbox = await Sandbox.create({ workspace: state.workspace })
    return new Filled(sandbox, await startFiller(sandbox))
  }

  async fill(count: number, pinned = false): Promise<void> {
    for (let n = 0; n < count; n++) {
      this.said.push(await tell(this.filler, `fill ${this.said.length}`))
      this.ids.push((await this.sandbox.checkpoint({ pinned })).id)
    }
  }

  async expectBack(index: number): Promise<void> {
    await this.sandbox.rollback(this.ids[index]!, { redo: false, strict: true })
    expect(await tell(this.filler, 'tell')).toBe(this.said[index])
  }

  /** Indices of those that are on the disk only. */
  async cold(): Promise<number[]> {
    const { checkpoints } = await this.sandbox.listCheckpoints()
    return checkpoints.filter(({ cold }) => cold).map(({ id }) => this.ids.indexOf(id))
  }
}

const metrics = ({ sandbox }: Filled) => sandbox.getMetrics()

test('beyond the bound the least recently used of all sandboxes goes cold, whoever needs the memory', async () => {
  const [one, two] = [await Filled.create(), await Filled.create()]
  await using _first = one.sandbox
  await using _second = two.sandbox
  await one.fill(4)
  await one.expectBack(1)
  expect(await getHotBudget()).toBeNull()
  expect(await metrics(one)).toMatchObject({ hotBoundBytes: null, coldCheckpoints: 0 })
  await two.fill(1)
  // Room for what both hold by now, and two more. (Each has a few hundred pages beside the 8 MiB.)
  const { hotTotalBytes } = await metrics(two)
  const bound = hotTotalBytes + 2.5 * FILLED_BYTES
  await setHotBudget(bound)
  await two.fill(4)
  // The first sandbox does nothing by itself; its head and what it used last stay longest.
  await until('room is made', async () => (await metrics(one)).hotTotalBytes <= bound)
  expect(await one.cold()).toEqual([0, 2])
  expect(await two.cold()).toEqual([])
  expect(await metrics(two)).toMatchObject({ hotBoundBytes: bound })
  for (const index of [0, 3, 2]) await one.expectBack(index)
  for (const index of [2, 0, 4]) await two.expectBack(index)
  await until('room is made again', async () => (await metrics(one)).hotTotalBytes <= bound)
})

test('a lower bound counts at once, pinned checkpoints stay, and none at all brings nothing back by itself', async () => {
  const filled = await Filled.create()
  await using sandbox = filled.sandbox
  await filled.fill(1, true)
  await filled.fill(3)
  await setHotBudget(1)
  await until('all that may have gone', async () => (await filled.cold()).length === 2)
  expect(await filled.cold()).toEqual([1, 2])
  await sandbox.pin(filled.ids[2]!)
  await until('it is in memory', async () => (await filled.cold()).join() === '1')
  await sandbox.pin(filled.ids[0]!, false)
  await until('it has gone', async () => (await filled.cold()).join() === '0,1')
  await setHotBudget(null)
  for (const index of [0, 1, 2, 3]) await filled.expectBack(index)
  await expect(sandbox.pin('nothing')).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
  await expect(setHotBudget(0)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('many sandboxes under a bound that is too small for them all have every state they ask for', async () => {
  await setHotBudget(5 * FILLED_BYTES)
  const all = await Promise.all(Array.from({ length: 4 }, () => Filled.create()))
  try {
    await Promise.all(
      all.map(async (filled, seed) => {
        for (let round = 0; round < 6; round++) {
          await filled.fill(1)
          await filled.expectBack((round * (seed + 3)) % filled.ids.length)
        }
      }),
    )
    await until('all of them fit', async () => (await metrics(all[0]!)).hotTotalBytes <= 5 * FILLED_BYTES, WRITTEN_MS)
    expect((await Promise.all(all.map((filled) => filled.cold()))).flat().length).toBeGreaterThan(10)
    await Promise.all(all.map(async (filled) => filled.expectBack(0)))
  } finally {
    await Promise.all(all.map(({ sandbox }) => sandbox.kill()))
  }
})

test('what an engine held that was killed does not count; pins outlive it, and retention keeps what is pinned', async () => {
  const filled = await Filled.create()
  const other = await Filled.create()
  await using _other = other.sandbox
  await filled.fill(3, true)
  const { hotTotalBytes } = await metrics(other)
  process.kill((await filled.sandbox.getInfo()).enginePid, 'SIGKILL')
  await until('it counts no more', async () => (await metrics(other)).hotTotalBytes < hotTotalBytes - 2 * FILLED_BYTES)
  await using again = await Sandbox.connect(filled.sandbox.id)
  const { checkpoints } = await again.listCheckpoints()
  expect(checkpoints.filter(({ pinned }) => pinned).map(({ id }) => id)).toEqual(filled.ids)

  await using retained = await Sandbox.create({ workspace: state.workspace, retention: { keepLast: 2 } })
  const { id } = await retained.checkpoint({ pinned: true })
  for (let n = 0; n < 4; n++) await retained.checkpoint()
  const kept = (await retained.listCheckpoints()).checkpoints
  expect(kept).toHaveLength(2)
  expect(kept[0]).toMatchObject({ id, pinned: true })
})

test('deltabox budget, info and checkpoint --pin', async () => {
  const filled = await Filled.create()
  await using sandbox = filled.sandbox
  await filled.fill(1)
  expect(deltabox('budget').stdout).toMatch(/^\d+\.\d MiB of no bound\n$/)
  expect(deltabox('budget', '1073741824').stdout).toMatch(/ of 1\.0 GiB\n$/)
  expect(await getHotBudget()).toBe(1 << 30)
  const pinned = deltabox('checkpoint', sandbox.id, '--pin').stdout.trim()
  const { checkpoints } = await sandbox.listCheckpoints()
  expect(checkpoints.find(({ id }) => id === pinned)).toMatchObject({ pinned: true })
  const info = deltabox('info', sandbox.id)
  expect(info.stdout).toMatch(/^checkpoints +2, 0 of them cold; head cp-2$/m)
  expect(info.stdout).toMatch(/^memory of them +\d+\.\d MiB; all sandboxes \d+\.\d MiB of 1\.0 GiB$/m)
  expect(JSON.parse(deltabox('info', sandbox.id, '--json').stdout)).toMatchObject({ info: { id: sandbox.id } })
  expect(deltabox('budget', 'none', '--json').stdout).toContain('"boundBytes":null')
  expect(deltabox('budget', '1G')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('not a bound') as string,
  })
})

test('a damaged budget is named, and no sandbox is made', async () => {
  mkdirSync(state.stateDir, { recursive: true, mode: 0o700 })
  writeFileSync(join(state.stateDir, 'hot-budget'), 'something else')
  await expect(getHotBudget()).rejects.toMatchObject({ code: 'DAMAGED' })
  await expect(Sandbox.create({ workspace: state.workspace })).rejects.toMatchObject({ code: 'DAMAGED' })
})

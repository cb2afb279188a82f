// Where tasks may have no userfaultfd, memory is compared at each checkpoint: slower, and the same in all else.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { FILLED_BYTES, startFiller, tell } from '../support/filler.js'
import { changeAll, createWithGuests, failures, guests, startAll } from '../support/guests.js'
import { killAll } from '../support/processes.js'
import { useTestState } from '../support/state.js'
import { createUnderFilter } from '../support/under-filter.js'

const state = useTestState()
const ROLLBACKS = 5
const MIB = 1 << 20
const SYS_USERFAULTFD = 323
const ALL_GUESTS_MS = 240_000

beforeAll(() => {
  process.env['DELTABOX_COMPARE_MEMORY'] = '1'
})
afterAll(() => {
  delete process.env['DELTABOX_COMPARE_MEMORY']
})

test('only what changed is kept, and the sandbox says how that is found', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const filler = await startFiller(sandbox)
  const first = await tell(filler, 'fill first')
  const before = await sandbox.checkpoint({ strict: true })
  expect(before.copiedBytes).toBeGreaterThan(FILLED_BYTES)
  expect((await sandbox.getInfo()).warnings).toEqual([expect.stringContaining('compare all memory')])
  const { copiedBytes } = await sandbox.checkpoint({ strict: true })
  expect(copiedBytes).toBeLessThan(MIB)
  const second = await tell(filler, 'fill second')
  const after = await sandbox.checkpoint({ strict: true })
  expect(after.copiedBytes).toBeLessThan(FILLED_BYTES + MIB)
  await sandbox.rollback(before, { strict: true })
  expect(await tell(filler, 'tell')).toBe(first)
  await killAll(sandbox)
  await sandbox.rollback(after, { strict: true })
  expect(await tell(await sandbox.commands.connect(filler.commandId), 'tell')).toBe(second)
})

test(
  'all guests together, rolled back again and again, killed, and from sibling to sibling',
  async () => {
    await using sandbox = await createWithGuests(state.workspace)
    const all = await startAll(sandbox, guests)
    const checkpoint = await sandbox.checkpoint()
    for (let round = 1; round <= ROLLBACKS; round++) {
      await changeAll(all)
      expect((await sandbox.rollback(checkpoint)).notRestored, `round ${round}`).toEqual([])
      expect(await failures(all), `round ${round}`).toEqual([])
      await sandbox.rollback(checkpoint, { redo: false })
    }
    await changeAll(all)
    const changed = await sandbox.checkpoint()
    await sandbox.rollback(checkpoint)
    await sandbox.rollback(changed)
    await sandbox.rollback(checkpoint)
    expect(await failures(all)).toEqual([])
    await sandbox.rollback(checkpoint)
    await killAll(sandbox)
    expect((await sandbox.rollback(checkpoint)).notRestored).toEqual([])
    await Promise.all(all.map((guest) => guest.reconnect(sandbox)))
    expect(await failures(all)).toEqual([])
  },
  ALL_GUESTS_MS,
)

test('a filter that denies userfaultfd is no hindrance', async () => {
  delete process.env['DELTABOX_COMPARE_MEMORY']
  await using sandbox = await createUnderFilter(state.workspace, SYS_USERFAULTFD)
  const filler = await startFiller(sandbox)
  const first = await tell(filler, 'fill first')
  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect((await sandbox.getInfo()).warnings.join()).toMatch(/compare all memory.*userfaultfd in a tracee/)
  await tell(filler, 'fill second')
  await sandbox.rollback(checkpoint, { strict: true })
  expect(await tell(filler, 'tell')).toBe(first)
})

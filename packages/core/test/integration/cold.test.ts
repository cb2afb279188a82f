// Process states on the disk: beyond the bound of memory, and after the end of an engine.
import { closeSync, openSync, readdirSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { startFiller, tell } from '../support/filler.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const MIB = 1 << 20

const pagesDir = (id: string) => join(state.stateDir, 'sandboxes', id, 'store', 'pages')
const coldOnes = async (sandbox: Sandbox) =>
  (await sandbox.listCheckpoints()).checkpoints.filter(({ cold }) => cold).map(({ id }) => id)

test('beyond the bound the least recently used go to the disk, and come back whole', async () => {
  const hotBytes = 40 * MIB
  await using sandbox = await Sandbox.create({ workspace: state.workspace, retention: { hotBytes } })
  const filler = await startFiller(sandbox)
  const said: string[] = []
  const ids: string[] = []
  for (let n = 0; n < 10; n++) {
    said.push(await tell(filler, `fill number-${n}`))
    ids.push((await sandbox.checkpoint()).id)
  }
  await until('those that are too many are cold', async () => {
    const { pageStoreBytes, coldCheckpoints } = await sandbox.getMetrics()
    return pageStoreBytes <= hotBytes && coldCheckpoints > 3
  })
  expect(await coldOnes(sandbox)).toEqual(ids.slice(0, (await sandbox.getMetrics()).coldCheckpoints))
  for (const n of [3, 0, 9, 1, 5]) {
    await sandbox.rollback(ids[n]!, { redo: false, strict: true })
    expect(await tell(filler, 'tell')).toBe(said[n])
  }
  await until('memory is bounded', async () => (await sandbox.getMetrics()).pageStoreBytes <= hotBytes)
  // What only a deleted one needed goes with it.
  const files = readdirSync(pagesDir(sandbox.id)).length
  for (const n of [0, 1, 2, 3, 4]) await sandbox.deleteCheckpoint(ids[n]!)
  expect(readdirSync(pagesDir(sandbox.id)).length).toBeLessThan(files)
  await sandbox.rollback(ids[9]!, { redo: false, strict: true })
  expect(await tell(filler, 'tell')).toBe(said[9])
})

test('with durable processes an engine that was killed is replaced, and the pair of the last checkpoint goes on', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace, durability: 'processes' })
  const filler = await startFiller(sandbox)
  const first = await tell(filler, 'fill first')
  const early = await sandbox.checkpoint({ name: 'early' })
  const second = await tell(filler, 'fill second')
  await sandbox.files.write('/workspace/number', '2')
  const late = await sandbox.checkpoint()
  await until('it is on the disk', async () =>
    (await sandbox.listCheckpoints()).checkpoints.every(({ durable }) => durable),
  )
  // Of the second one only what changed.
  expect(readdirSync(pagesDir(sandbox.id))).toEqual(['1', '2'])
  expect(statSync(join(pagesDir(sandbox.id), '2')).size).toBeLessThan(late.copiedBytes * 1.01)
  await sandbox.files.write('/workspace/number', '3')
  await tell(filler, 'fill lost')
  process.kill((await sandbox.getInfo()).enginePid, 'SIGKILL')

  await using again = await Sandbox.connect(sandbox.id)
  const { warnings } = await again.getInfo()
  expect(warnings.join()).toContain(`files and processes are those of checkpoint ${late.id}`)
  const inAgain = await again.commands.connect(filler.commandId)
  expect(await tell(inAgain, 'tell')).toBe(second)
  expect(await again.files.read('/workspace/number')).toBe('2')
  await again.rollback(early, { strict: true })
  expect(await tell(inAgain, 'tell')).toBe(first)
  await again.rollback(/are those of (cp-\d+)$/.exec(warnings.at(-1)!)![1]!)
  expect(await again.files.read('/workspace/number')).toBe('3')
  // And once more, from what the second engine wrote.
  await again.rollback(late, { strict: true })
  const third = await tell(await again.commands.connect(filler.commandId), 'fill third')
  const last = await again.checkpoint()
  await until('it is on the disk', async () =>
    (await again.listCheckpoints()).checkpoints.every(({ id, durable }) => id !== last.id || durable),
  )
  process.kill((await again.getInfo()).enginePid, 'SIGKILL')
  const thrice = await Sandbox.connect(sandbox.id)
  expect(await tell(await thrice.commands.connect(filler.commandId), 'tell')).toBe(third)
})

test('a damaged image is named and never used; the files are, and other checkpoints', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace, durability: 'processes' })
  const filler = await startFiller(sandbox)
  const first = await tell(filler, 'fill first')
  await sandbox.files.write('/workspace/number', '1')
  const whole = await sandbox.checkpoint()
  await tell(filler, 'fill second')
  await sandbox.files.write('/workspace/number', '2')
  const broken = await sandbox.checkpoint()
  await until('they are on the disk', async () =>
    (await sandbox.listCheckpoints()).checkpoints.every(({ durable }) => durable),
  )
  process.kill((await sandbox.getInfo()).enginePid, 'SIGKILL')
  const image = openSync(join(state.stateDir, 'sandboxes', sandbox.id, 'store', 'images', broken.id), 'r+')
  writeSync(image, 'damage', 2000)
  closeSync(image)

  await using again = await Sandbox.connect(sandbox.id)
  expect((await again.getInfo()).warnings.join()).toMatch(`the image of ${broken.id} is damaged`)
  expect(await again.files.read('/workspace/number')).toBe('2')
  await expect(again.rollback(broken, { strict: true })).rejects.toMatchObject({ code: 'DAMAGED' })
  const { notRestored } = await again.rollback(broken)
  expect(notRestored).toMatchObject([{ kind: 'process', reason: expect.stringContaining('DAMAGED') as string }])
  await again.rollback(whole, { strict: true })
  expect(await tell(await again.commands.connect(filler.commandId), 'tell')).toBe(first)
  expect(await again.files.read('/workspace/number')).toBe('1')
})

test('a rollback that fails half way is completed from the image', async () => {
  process.env['DELTABOX_FAULT'] = 'after-switch:0:fail'
  const created = Sandbox.create({ workspace: state.workspace })
  await created.finally(() => delete process.env['DELTABOX_FAULT'])
  await using sandbox = await created
  const filler = await startFiller(sandbox)
  const first = await tell(filler, 'fill first')
  await sandbox.files.write('/workspace/number', '1')
  const checkpoint = await sandbox.checkpoint()
  await tell(filler, 'fill second')
  await sandbox.files.write('/workspace/number', '2')
  const done = await sandbox.rollback(checkpoint)
  expect(done.notRestored).toMatchObject([{ kind: 'process', reason: expect.stringContaining('made again') as string }])
  expect(done.restoredProcesses).toBe(1)
  expect(await tell(filler, 'tell')).toBe(first)
  expect(await sandbox.files.read('/workspace/number')).toBe('1')
  await sandbox.rollback(done.safetyCheckpoint!, { strict: true })
  expect(await tell(filler, 'tell')).toMatch(/second/)
  expect(await sandbox.files.read('/workspace/number')).toBe('2')
})

test('an engine that ends before the last checkpoint is written says where the processes are', async () => {
  process.env['DELTABOX_FAULT'] = 'pages-written:1'
  const sandbox = await Sandbox.create({ workspace: state.workspace, durability: 'processes' })
  delete process.env['DELTABOX_FAULT']
  const filler = await startFiller(sandbox)
  const first = await tell(filler, 'fill first')
  const whole = await sandbox.checkpoint()
  await until('it is on the disk', async () =>
    (await sandbox.listCheckpoints()).checkpoints.every(({ durable }) => durable),
  )
  await tell(filler, 'fill second')
  await sandbox.checkpoint().catch(() => undefined)
  await until('the end', async () => !(await sandbox.isRunning()))
  sandbox.disconnect()

  await using again = await Sandbox.connect(sandbox.id)
  expect((await again.getInfo()).warnings.join()).toContain(`a rollback to ${whole.id} brings back`)
  await again.rollback(whole, { strict: true })
  expect(await tell(await again.commands.connect(filler.commandId), 'tell')).toBe(first)
})

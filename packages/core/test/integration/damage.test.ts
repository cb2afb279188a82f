// Layers and records that somebody removed or altered behind our back: they are named and never used, and what is whole
// stays usable.
import { appendFileSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { comeBack, killEngine, read, write } from '../support/dead-engine.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState({ altersLayers: true })

const storeOf = (sandbox: Sandbox) => join(state.stateDir, 'sandboxes', sandbox.id, 'store')

/** Two durable checkpoints, a live state, and a dead engine. */
async function prepareDamage(): Promise<Sandbox> {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  for (const n of [1, 2]) {
    await write(sandbox, n)
    await sandbox.checkpoint({ name: `n${n}` })
  }
  await until('both are durable', async () =>
    (await sandbox.listCheckpoints()).checkpoints.every(({ durable }) => durable),
  )
  await write(sandbox, 'live')
  await killEngine(sandbox)
  return sandbox
}

const layerOf = (sandbox: Sandbox, contents: string) => {
  const layers = join(storeOf(sandbox), 'layers')
  const found = readdirSync(layers).filter((id) => readdirSync(join(layers, id, 'upper')).includes(contents))
  return join(layers, found.sort((a, b) => Number(a) - Number(b))[1]!)
}

test.each(['removed', 'altered'])('a layer that was %s behind our back is named and never used', async (what) => {
  const first = await prepareDamage()
  const layer = layerOf(first, 'number')
  if (what === 'removed') rmSync(join(layer, 'upper'), { recursive: true })
  else appendFileSync(join(layer, 'upper', 'number'), 'more')
  const second = await comeBack(first.id)
  const { warnings } = await second.getInfo()
  expect(warnings.join('\n')).toMatch(/checkpoint cp-2 can't be used: layer \d+/)
  // The live state stood on it, so the nearest whole one above is taken.
  expect(warnings.join('\n')).toContain('the files are those of checkpoint cp-1')
  expect(await read(second)).toBe('1\n1\n')
  await expect(second.rollback('cp-2')).rejects.toMatchObject({ code: 'DAMAGED' })
  await write(second, 3)
  await second.checkpoint({ name: 'n3' })
  await second.rollback('n1')
  expect(await read(second)).toBe('1\n1\n')
})

test.each(['state', 'checkpoints/cp-2'])('a damaged record, %s, is named and never used', async (name) => {
  const first = await prepareDamage()
  const path = join(storeOf(first), name)
  writeFileSync(path, 'nonsense')
  const second = await comeBack(first.id)
  const { warnings } = await second.getInfo()
  expect(warnings.join('\n')).toContain('is damaged')
  expect(await read(second)).toBe(name === 'state' ? '2\n2\n' : 'live\nlive\n')
  if (name !== 'state') await expect(second.rollback('cp-2')).rejects.toMatchObject({ code: 'DAMAGED' })
  await second.rollback('n1')
  expect(await read(second)).toBe('1\n1\n')
})

test('without the record of the live state, the head is the one of the last sync', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  for (const n of [1, 2]) {
    await write(sandbox, n)
    await sandbox.checkpoint({ name: `n${n}` })
  }
  await until('a sync of the state that a rollback led to', async () => {
    await write(sandbox, 'left')
    await sandbox.getInfo() // what follows the answer to a call is over by the next one's
    const startedMs = Date.now()
    await sandbox.rollback('n1') // the newest is the state that was left
    await until('all are durable', async () =>
      (await sandbox.listCheckpoints()).checkpoints.every(({ durable }) => durable),
    )
    // It may have begun before the rollback was over.
    return statSync(join(storeOf(sandbox), 'state.synced')).mtimeMs > startedMs
  })
  await killEngine(sandbox)
  // As XFS leaves a file that was renamed into its place and not synced.
  rmSync(join(storeOf(sandbox), 'state'))
  writeFileSync(join(storeOf(sandbox), 'state'), '')
  const second = await comeBack(sandbox.id)
  expect((await second.getInfo()).head).toBe('cp-1')
  expect(await read(second)).toBe('1\n1\n')
})

test('the id of a damaged checkpoint is not given again, and what cut-off writes left goes', async () => {
  const first = await prepareDamage()
  const records = join(storeOf(first), 'checkpoints')
  for (const name of ['state', 'state.synced']) rmSync(join(storeOf(first), name))
  writeFileSync(join(records, 'cp-2'), '')
  writeFileSync(join(records, 'cp-3.durable'), '')
  writeFileSync(join(records, 'cp-4.new'), 'half')
  const second = await comeBack(first.id)
  for (const name of ['cp-3.durable', 'cp-4.new']) expect(existsSync(join(records, name)), name).toBe(false)
  expect((await second.checkpoint()).id).toBe('cp-3')
  await expect(second.rollback('cp-2')).rejects.toMatchObject({ code: 'DAMAGED' })
})

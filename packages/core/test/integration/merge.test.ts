// Deep histories: layers are merged behind the scenes, deleted checkpoints free what only they held.
import { existsSync, linkSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { leftovers } from '../crash/records.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const SEALS = 80

const layersOf = (id: string) => readdirSync(join(state.stateDir, 'sandboxes', id, 'store', 'layers')).length

// Everything a merge could get wrong: names, modes, links, whiteouts, directories in a file's place and the reverse.
const LISTING =
  'cd /workspace && find . -printf "%p %y %m %s %T@ %l\\n" | sort && find . -type f -exec sha256sum {} + | sort'

/** Changes the tree in another way each time. */
const step = (n: number) => `
cd /workspace
mkdir -p dir$((${n} % 7))/sub && echo ${n} > dir$((${n} % 7))/sub/file${n}
echo ${n} >> log
[ ${n} -lt 8 ] || rm -rf dir$(((${n} + 3) % 7))
[ $((${n} % 5)) -ne 0 ] || { rm -rf turns; mkdir turns; echo ${n} > turns/in; }
[ $((${n} % 5)) -ne 2 ] || { rm -rf turns; echo file > turns; }
[ $((${n} % 5)) -ne 3 ] || { rm -rf turns; ln -s log turns; }
chmod $((600 + ${n} % 8)) log
rm -f src/main.txt; [ $((${n} % 3)) -ne 0 ] || echo again > src/main.txt
`

test(`${SEALS} seals are merged, and every checkpoint still shows its own tree`, async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const list = async () => (await sandbox.commands.run(LISTING)).stdout
  const known: { id: string; files: string }[] = []
  for (let n = 0; n < SEALS; n++) {
    await sandbox.commands.run(step(n))
    known.push({ id: (await sandbox.checkpoint()).id, files: await list() })
  }
  const depths = await sandbox.commands.run("grep -c . /proc/self/mountinfo; grep ' /workspace ' /proc/self/mountinfo")
  const depth = depths.stdout.split('lowerdir').length - 1
  expect(depth).toBeGreaterThan(1)
  expect(depth).toBeLessThan(24)
  for (const index of [0, 7, SEALS - 1, 31, 16, 60]) {
    await sandbox.rollback(known[index]!.id, { redo: false })
    expect(await list(), `checkpoint ${index}`).toBe(known[index]!.files)
  }
})

test('a deleted checkpoint is gone, its neighbours are not, and its layers go with it', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const ids: string[] = []
  for (let n = 0; n < 6; n++) {
    await sandbox.commands.run(`echo ${n} > /workspace/number`)
    ids.push((await sandbox.checkpoint()).id)
  }
  await sandbox.rollback(ids[0]!, { redo: false })
  const before = layersOf(sandbox.id)
  for (const id of [1, 2, 3, 5]) await sandbox.deleteCheckpoint(ids[id]!)
  await expect(sandbox.rollback(ids[3]!)).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
  await expect(sandbox.deleteCheckpoint('nothing')).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
  const { checkpoints } = await sandbox.listCheckpoints()
  expect(checkpoints.map(({ id, parent }) => [id, parent])).toEqual([
    [ids[0], null],
    [ids[4], ids[0]],
  ])
  await sandbox.rollback(ids[4]!)
  expect(await sandbox.files.read('/workspace/number')).toBe('4\n')
  await until('unused layers are removed', () => layersOf(sandbox.id) < before)
})

test('a merge that a rollback has left behind keeps no layer', async () => {
  process.env['DELTABOX_FAULT'] = 'after-merge:pause'
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  delete process.env['DELTABOX_FAULT']
  const ids: string[] = []
  for (let n = 0; n < 6; n++) {
    await sandbox.commands.run(`echo ${n} > /workspace/number`)
    ids.push((await sandbox.checkpoint()).id)
  }
  await sandbox.rollback(ids[0]!, { redo: false })
  for (const id of ids.slice(1)) await sandbox.deleteCheckpoint(id)
  const store = join(state.stateDir, 'sandboxes', sandbox.id, 'store')
  // The next writable layers, after a seal or one more rollback, may have been staged after the state was written down.
  await until(
    () => leftovers(store).join(),
    () => leftovers(store).length <= 2,
  )
})

test('a link that a merge makes in the middle of a checkpoint, to what an open file was copied from, is no harm', async () => {
  process.env['DELTABOX_FAULT'] = 'after-capture:1:pause'
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  delete process.env['DELTABOX_FAULT']
  await sandbox.files.write('README.md', 'sealed')
  await sandbox.checkpoint()
  const program = 'f=open("/workspace/README.md","r+"); f.write("x"); f.flush(); print("ready", flush=True); input()'
  const holder = await sandbox.commands.run(['python3', '-c', program], { background: true, stdin: true })
  await until('the file', async () => (await sandbox.files.read('README.md')).startsWith('x'))
  const checkpoint = sandbox.checkpoint({ strict: true })
  await new Promise((resolve) => setTimeout(resolve, 500))
  // As a merge does with files of layers; overlayfs shows another inode number from here on.
  const layers = join(state.stateDir, 'sandboxes', sandbox.id, 'store', 'layers')
  const found = readdirSync(layers).map((layer) => join(layers, layer, 'upper', 'README.md'))
  for (const path of found.filter((path) => existsSync(path))) linkSync(path, join(dirname(dirname(path)), 'linked'))
  const { id } = await checkpoint
  await sandbox.files.write('README.md', 'other')
  await sandbox.rollback(id, { strict: true })
  expect((await sandbox.files.read('README.md')).startsWith('x')).toBe(true)
  await sandbox.commands.kill(holder.commandId)
})

test('retention keeps the last ones and the named ones', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace, retention: { keepLast: 3 } })
  for (let n = 0; n < 8; n++) {
    await sandbox.commands.run(`echo ${n} > /workspace/number`)
    await sandbox.checkpoint(n === 1 ? { name: 'kept' } : {})
  }
  await until('the older ones are gone', async () => (await sandbox.listCheckpoints()).checkpoints.length === 3)
  const { checkpoints } = await sandbox.listCheckpoints()
  expect(checkpoints.map(({ id, name }) => name ?? id)).toEqual(['kept', 'cp-7', 'cp-8'])
  await sandbox.rollback('kept', { redo: false })
  expect(await sandbox.files.read('/workspace/number')).toBe('1\n')
})

test('a sandbox that does nothing merges nothing, once all is merged', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  for (let n = 0; n < 8; n++) {
    await sandbox.files.write('file', String(n))
    await sandbox.checkpoint()
  }
  const ids = () =>
    readdirSync(join(state.stateDir, 'sandboxes', sandbox.id, 'store', 'layers'))
      .sort()
      .join()
  // A merge makes a layer with a number of its own. Requests give the engine its turn.
  await until('the layers stay as they are', async () => {
    const before = ids()
    for (let n = 0; n < 20; n++) {
      await sandbox.getInfo()
      await new Promise((resolve) => setTimeout(resolve, 20))
      if (ids() !== before) return false
    }
    return true
  })
})

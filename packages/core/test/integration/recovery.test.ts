// The engine dies at any moment: the files come back, and every checkpoint that was answered for stays usable.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { comeBack, killEngine, read, write } from '../support/dead-engine.js'
import { startPython } from '../support/python.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
afterEach(() => {
  delete process.env['DELTABOX_FAULT']
})

test('files, checkpoints and names come back; processes are reported', async () => {
  const first = await Sandbox.create({ workspace: state.workspace, metadata: { name: 'mine' } })
  await first.commands.run('sleep 1000', { background: true })
  await write(first, 1)
  const one = await first.checkpoint({ name: 'one', metadata: { why: 'a test' } })
  await write(first, 2)
  const two = await first.checkpoint()
  await first.commands.run('rm -rf /workspace/src; mkdir /workspace/new; echo last > /workspace/new/file')
  await write(first, 3)
  await killEngine(first)
  expect(await Sandbox.list()).toMatchObject([{ id: first.id, state: 'dead' }])

  const second = await comeBack(first.id)
  const info = await second.getInfo()
  expect(info.warnings.join()).toContain('processes are gone')
  expect(info).toMatchObject({ metadata: { name: 'mine' }, head: two.id, checkpoints: 2 })
  expect(await read(second)).toBe('3\n3\n')
  expect((await second.commands.run('cat new/file; ls')).stdout).toBe('last\nREADME.md\nnew\nnumber\n')
  const { notRestored } = await second.rollback('one')
  expect(notRestored).toMatchObject([{ kind: 'process' }])
  expect(await read(second)).toBe('1\n1\n')
  expect((await second.commands.run('ls src')).stdout).toBe('main.txt\n')
  const { checkpoints } = await second.listCheckpoints()
  expect(checkpoints.map(({ id }) => id)).toEqual([one.id, two.id, 'cp-3'])
  expect(checkpoints[0]).toMatchObject({ name: 'one', metadata: { why: 'a test' }, lostProcesses: 1 })
  await write(second, 4)
  await second.checkpoint({ name: 'later' })
  await killEngine(second)

  const third = await comeBack(first.id)
  for (const [target, files] of [
    ['two', ''],
    [two.id, '2\n2\n'],
    ['later', '4\n4\n'],
    [one.id, '1\n1\n'],
  ] as const) {
    if (files === '') await expect(third.rollback(target)).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
    else {
      await third.rollback(target, { redo: false })
      expect(await read(third)).toBe(files)
    }
  }
})

test('a death right after the answer: what was committed last is the head', async () => {
  process.env['DELTABOX_FAULT'] = 'parked-released:1'
  const first = await Sandbox.create({ workspace: state.workspace })
  delete process.env['DELTABOX_FAULT']
  await write(first, 1)
  await first.checkpoint()
  await write(first, 2)
  // Whoever looks at the engine once more after the answer finds it dead.
  await first.checkpoint().catch(() => undefined)
  await until('the end', async () => !(await first.isRunning()))
  first.disconnect()

  const second = await comeBack(first.id)
  expect(await second.getInfo()).toMatchObject({ head: 'cp-2', checkpoints: 2 })
  expect(await read(second)).toBe('2\n2\n')
  expect((await second.checkpoint()).parent).toBe('cp-2')
})

const POINTS = [
  ...['before-hand-over', 'after-hand-over', 'after-switch', 'after-thaw', 'checkpoint-written'],
  ...['state-written:4', 'before-removal:3'],
]

test.each(POINTS)('a death at %s: the last state is there, and the same call then succeeds', async (point) => {
  process.env['DELTABOX_FAULT'] = point
  const first = await Sandbox.create({ workspace: state.workspace })
  delete process.env['DELTABOX_FAULT']
  // Open for writing, so that an inode has to go over.
  await first.commands.run(['python3', '-c', 'f=open("/workspace/open","w"); f.write("held"); f.flush(); input()'], {
    background: true,
    stdin: true,
  })
  await until('the file', () => first.files.exists('/workspace/open'))
  await write(first, 'before')
  const done: string[] = []
  let died = false
  let written = 'before'
  for (let n = 0; n < 6 && !died; n++) {
    try {
      await write(first, n)
      written = String(n)
      await first.checkpoint({ name: `n${n}` })
      done.push(`n${n}`)
    } catch {
      died = true
    }
  }
  expect(died).toBe(true)
  first.disconnect()
  const second = await comeBack(first.id)
  expect(await read(second)).toBe(`${written}\n${written}\n`)
  const last = Number(written)
  expect(await second.files.read('/workspace/open')).toBe('held')
  // The one that was not answered for is there as a whole, or not at all.
  const names = (await second.listCheckpoints()).checkpoints.map(({ name }) => name)
  expect(names.slice(0, done.length)).toEqual(done)
  if (!names.includes(`n${last}`)) await second.checkpoint({ name: `n${last}` })
  for (let n = 0; n <= last; n++) {
    await second.rollback(`n${n}`, { redo: false })
    expect(await read(second), `checkpoint n${n}`).toBe(`${n}\n${n}\n`)
    expect(await second.files.read('/workspace/open')).toBe('held')
  }
})

test('a death in a rollback leaves the state before or after it', async () => {
  process.env['DELTABOX_FAULT'] = 'after-switch:2'
  const first = await Sandbox.create({ workspace: state.workspace })
  delete process.env['DELTABOX_FAULT']
  for (const n of [0, 1]) {
    await write(first, n)
    await first.checkpoint({ name: `n${n}` })
  }
  await write(first, 'live')
  await expect(first.rollback('n0')).rejects.toMatchObject({ code: 'ENGINE_LOST' })
  first.disconnect()
  const second = await comeBack(first.id)
  expect(['live\nlive\n', '0\n0\n']).toContain(await read(second))
  await second.rollback('n0')
  expect(await read(second)).toBe('0\n0\n')
  await second.rollback('n1')
  expect(await read(second)).toBe('1\n1\n')
})

test('copies of large open files that had no place in a layer yet go with the engine that made them', async () => {
  process.env['DELTABOX_FAULT'] = 'before-freeze:1'
  const first = await Sandbox.create({ workspace: state.workspace })
  delete process.env['DELTABOX_FAULT']
  const python = await startPython(
    first,
    `held = open('held', 'wb', 0); held.write(bytes([7]) * (1 << 20))
def edit(): held.seek(9); held.write(b'edit')`,
  )
  await first.checkpoint()
  await python.run('edit()')
  const layers = join(state.stateDir, 'sandboxes', first.id, 'store', 'layers')
  const copies = () =>
    readdirSync(layers)
      .flatMap((layer) => readdirSync(join(layers, layer)))
      .filter((name) => name.startsWith('copy-'))
  await expect(first.checkpoint()).rejects.toMatchObject({ code: 'ENGINE_LOST' })
  first.disconnect()
  const sharesBlocks = copies().length === 0
  if (!sharesBlocks) expect(copies()).toHaveLength(1)
  const second = await comeBack(first.id)
  expect(copies()).toEqual([])
  expect((await second.commands.run('head -c 13 held | tail -c 4')).stdout).toBe('edit')
})

test('two clients that come at once get one engine', async () => {
  const first = await Sandbox.create({ workspace: state.workspace })
  await write(first, 1)
  await killEngine(first)
  const [second, third] = await Promise.all([comeBack(first.id), comeBack(first.id)])
  expect((await second.getInfo()).enginePid).toBe((await third.getInfo()).enginePid)
  expect(await read(third)).toBe('1\n1\n')
})

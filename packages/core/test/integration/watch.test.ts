import { expect, test } from 'vitest'
import { Sandbox, type WatchEvent } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })

function recorder() {
  const events: WatchEvent[] = []
  const told = () => events.map(({ type, name }) => `${type} ${name}`)
  return {
    events,
    onEvent: (event: WatchEvent) => void events.push(event),
    /** Waits for events, in any order, then forgets all that came. */
    expect: async (...wanted: string[]) => {
      await until(`${wanted.join(', ')} among ${told().join(', ')}`, () =>
        wanted.every((event) => told().includes(event)),
      )
      events.splice(0)
    },
  }
}

test('what happens in a directory is told, with any name', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  const seen = recorder()
  const watch = await files.watchDir('.', seen.onEvent)
  await commands.run('touch new; echo x > new; chmod 600 new; mv new moved; rm moved; mkdir below; touch below/hidden')
  await seen.expect(
    'create new',
    'write new',
    'chmod new',
    'rename new',
    'create moved',
    'remove moved',
    'create below',
  )
  expect(seen.events.some(({ name }) => name.includes('hidden'))).toBe(false)
  await files.write('whole', 'x')
  await seen.expect('create whole')
  expect(seen.events.filter(({ name }) => name.startsWith('.deltabox'))).toEqual([])
  await commands.run(String.raw`touch $'\xff'`)
  await until('the odd name', () => seen.events.some(({ rawName }) => rawName?.[0] === 0xff))
  await watch.stop()
  await watch.stop()
  seen.events.splice(0)
  await commands.run('touch unseen')
  await files.exists('.')
  expect(seen.events).toEqual([])
})

test('a watch goes on through checkpoints and rollbacks', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  const seen = recorder()
  await files.watchDir('/workspace/src', seen.onEvent)
  await commands.run('touch src/a')
  await seen.expect('create a')
  const first = await sandbox.checkpoint()
  await commands.run('touch src/b')
  await seen.expect('create b')
  await sandbox.checkpoint()
  await commands.run('touch src/c')
  await seen.expect('create c')
  await sandbox.rollback(first)
  await seen.expect('rolledBack ')
  await commands.run('touch src/d; rm src/main.txt')
  await seen.expect('create d', 'remove main.txt')

  // None of what a busy writer does is lost while checkpoints are taken.
  const writer = commands.run('for i in $(seq 400); do : > src/n$i; done')
  for (let round = 0; round < 8; round += 1) await sandbox.checkpoint()
  await writer
  const all = Array.from({ length: 400 }, (_, index) => `create n${index + 1}`)
  await seen.expect(...all)
})

test('recursive watches see what is made below, and a rollback arms them for what is there then', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  const seen = recorder()
  await commands.run('mkdir -p old/deep')
  const watch = await files.watchDir('.', seen.onEvent, { recursive: true })
  await commands.run('touch old/deep/x; mkdir -p young/er; touch young/er/y')
  await seen.expect('create old/deep/x', 'create young', 'create young/er', 'create young/er/y')
  await commands.run('mv young/er young/est; touch young/est/w; mv young/est young/er')
  await seen.expect('rename young/er', 'create young/est', 'create young/est/w', 'rename young/est')
  await sandbox.checkpoint({ name: 'both' })
  await commands.run('touch young/er/z')
  await seen.expect('create young/er/z')
  await commands.run('rm -r young')
  await seen.expect('remove young')
  await sandbox.rollback('both')
  await seen.expect('rolledBack ')
  await commands.run('touch young/er/again old/deep/again')
  await seen.expect('create young/er/again', 'create old/deep/again')
  await watch.stop()
})

test('a watch ends with its directory, and with its connection', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  await sandbox.checkpoint({ name: 'without' })
  await files.makeDir('short')
  const ends: (Error | undefined)[] = []
  const onEnd = (reason: Error | undefined) => void ends.push(reason)
  const ignore = () => undefined
  await files.watchDir('short', ignore, { onEnd })
  await commands.run('rmdir short')
  await until('the end', () => ends.length === 1)
  expect(ends[0]).toMatchObject({ code: 'NOT_FOUND' })

  await files.makeDir('short')
  const seen = recorder()
  await files.watchDir('short', seen.onEvent, { onEnd })
  await sandbox.rollback('without')
  await until('the end', () => ends.length === 2)
  expect(seen.events).toEqual([{ type: 'rolledBack', name: '' }])

  const other = await Sandbox.connect(sandbox.id)
  await other.files.watchDir('.', ignore, { onEnd })
  other.disconnect()
  await until('the end', () => ends.length === 3)
  expect(ends[2]).toMatchObject({ code: 'ENGINE_LOST' })

  await expect(files.watchDir('missing', ignore)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(files.watchDir('README.md', ignore)).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' })
  await expect(files.watchDir('.', 'x' as unknown as () => void)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('more events than can be told are one event that says so', async () => {
  await using sandbox = await create()
  const seen = recorder()
  await sandbox.files.watchDir('.', seen.onEvent)
  // The engine is busy copying this while the events come.
  const size = 64 << 20
  const busy = sandbox.files.write('/tmp/big', Buffer.alloc(4 * size))
  await sandbox.commands.run(['python3', '-c', 'for i in range(60000): open(f"e{i}", "w").close()'])
  await busy
  await sandbox.files.write('last', 'x')
  await until(
    'all or an overflow',
    () =>
      seen.events.some(({ type }) => type === 'overflow') ||
      seen.events.filter(({ type }) => type === 'create').length > 60_000,
  )
})

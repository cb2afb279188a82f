// On tmpfs a store through a mapping, to a page that was read before, changes no time of the file.
import { describe, expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { startPython } from '../support/python.js'
import { useTestState } from '../support/state.js'

describe.each([
  ['on the disk', undefined],
  ['on tmpfs', '/dev/shm'],
])('%s', (_where, parent) => {
  const state = useTestState({ parent })

  test('what was written through a mapping that is gone by the checkpoint is in it, also where no time tells', async () => {
    await using sandbox = await Sandbox.create({ workspace: state.workspace })
    const python = await startPython(
      sandbox,
      `
import mmap, os
fds = [os.open(name, os.O_RDWR | os.O_CREAT) for name in ('named', 'nameless')]
for fd in fds: os.write(fd, bytes(65536))
os.unlink('nameless')
def store(n):
    for fd in fds:
        with mmap.mmap(fd, 65536) as mapped:
            assert mapped[5] is not None
            mapped[:2] = b'%d' % n
def look(): print(*(os.pread(fd, 2, 0).decode() for fd in fds), open('named').read(2))
`,
    )
    const checkpoints = []
    for (let round = 10; round < 16; round++) {
      await python.run(`store(${round})`)
      checkpoints.push(await sandbox.checkpoint({ strict: true }))
    }
    for (const index of [5, 1, 4, 0, 3, 2]) {
      await python.run('store(99)')
      await sandbox.rollback(checkpoints[index]!, { strict: true })
      expect(await python.run('look()')).toBe(
        Array(3)
          .fill(10 + index)
          .join(' '),
      )
    }
  })
})

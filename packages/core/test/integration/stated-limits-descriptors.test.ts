// What docs/limits.md says of descriptors: what of them is kept or lost, and how that is seen.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { startPython } from '../support/python.js'
import { useTestState } from '../support/state.js'

const state = useTestState()

const create = () => Sandbox.create({ workspace: state.workspace })

// FIFOs

const OPEN_FIFO = `
import fcntl, os
path = '/workspace/fifo'
os.mkfifo(path)
held = os.open(path, os.O_RDWR | os.O_NONBLOCK)
os.write(held, b'held')
def call():
    with open(os.open(path, os.O_WRONLY | os.O_NONBLOCK), 'wb') as caller: caller.write(b' called')
`
const LEADS_NOWHERE = /^OSError \[Errno 6\]/ // ENXIO: nobody has it open

test.each([
  ['one that signals its owner', 'fcntl.fcntl(held, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)', true, LEADS_NOWHERE],
  [
    'one with another name',
    "os.link(path, '/workspace/other'); os.unlink(path); path = '/workspace/other'",
    true,
    LEADS_NOWHERE,
  ],
  ['one without a name', 'os.unlink(path)', false, /^FileNotFoundError/],
])('a FIFO that can not be opened anew stays as it is, and no path leads to it: %s', async (_, line, told, outcome) => {
  await using sandbox = await create()
  const python = await startPython(sandbox, OPEN_FIFO)
  await python.run('call()')
  await python.run(line)
  const { warnings } = await sandbox.checkpoint()
  expect(warnings.map(({ pid, kind }) => [pid, kind])).toEqual(told ? [[python.command.pid, 'fifo']] : [])
  expect(await python.run('call()')).toMatch(outcome)
  expect(await python.run('print(os.read(held, 100))')).toBe("b'held called'")
})

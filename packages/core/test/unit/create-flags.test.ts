import { expect, test } from 'vitest'
import { createFlags, createOptionsFromFlags } from '../../src/index.js'
import { createOptionsSchema } from '../../src/sandbox/options.js'

test('every flag ends up in the options of Sandbox.create', () => {
  const options = createOptionsFromFlags({
    workspace: '/w',
    workspaceMount: '/project',
    rootfs: '/image',
    volume: ['/empty', '/host/a:/a', '/host/with:colon:/b:ro', '/c:cow'],
    allow: ['a.example:443', 'b.example'],
    memoryBytes: '1000',
    cpus: '0.5',
    processes: '20',
    openFiles: '64',
    diskBytes: '2000000',
    outputBytes: '1000000',
    idleTimeoutMs: '5',
    orphanTimeoutMs: '6',
    keepLast: '7',
    keepBytes: '8',
    hotBytes: '9',
    durability: 'processes',
    dropNamed: true,
    name: 'mine',
    metadata: ['team=a=b', 'empty='],
  })
  expect(options).toEqual({
    workspace: '/w',
    workspaceMount: '/project',
    rootfs: '/image',
    volumes: [
      { path: '/empty' },
      { path: '/a', from: '/host/a' },
      { path: '/b', from: '/host/with:colon', mode: 'ro' },
      { path: '/c', mode: 'cow' },
    ],
    network: { allow: ['a.example:443', 'b.example'] },
    limits: {
      memoryBytes: 1000,
      cpus: 0.5,
      processes: 20,
      openFiles: 64,
      diskBytes: 2_000_000,
      outputBytes: 1_000_000,
    },
    idleTimeoutMs: 5,
    orphanTimeoutMs: 6,
    retention: { keepLast: 7, maxBytes: 8, hotBytes: 9, keepNamed: false },
    durability: 'processes',
    metadata: { team: 'a=b', empty: '', name: 'mine' },
  })
  expect(createOptionsSchema.safeParse(options).success).toBe(true)
  expect(createOptionsSchema.parse(createOptionsFromFlags({}))).toEqual(createOptionsSchema.parse({}))
})

test('there is a flag for every option and every limit', () => {
  const { limits, retention, ...shape } = createOptionsSchema.shape
  const inFlags = createFlags.map(({ name }) =>
    name.slice(2).replace(/-(.)/g, (_, letter: string) => letter.toUpperCase()),
  )
  const other = { volumes: 'volume', signal: undefined } as Record<string, string | undefined>
  const wanted = [...Object.keys(shape).map((name) => (name in other ? other[name] : name)), ...keysOf(limits)]
  expect(inFlags).toEqual(expect.arrayContaining(wanted.filter((name) => name !== undefined)))
  expect(keysOf(retention)).toEqual(['keepLast', 'keepNamed', 'maxBytes', 'hotBytes'])
  expect(inFlags).toEqual(expect.arrayContaining(['keepLast', 'keepBytes', 'hotBytes', 'dropNamed', 'allow', 'name']))
})

const keysOf = ({ unwrap }: { unwrap: () => { shape: object } }) => Object.keys(unwrap().shape)

test.each([
  [{ metadata: ['novalue'] }, 'is no label'],
  [{ metadata: ['=x'] }, 'is no label'],
  [{ network: 'host', allow: ['a.example'] }, 'contradict'],
])('%j is refused', (flags, message) => {
  expect(() => createOptionsFromFlags(flags)).toThrow(message)
})

test.each(['x', '', '-1', '1e3', '0x10', ' 1', '10k'])('%j is no number', (text) => {
  const refusal = { code: 'INVALID_ARGUMENT', message: `--open-files: ${JSON.stringify(text)} is no number from 0 on` }
  expect(() => createOptionsFromFlags({ openFiles: text })).toThrow(expect.objectContaining(refusal))
})

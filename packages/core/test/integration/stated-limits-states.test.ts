// What docs/limits.md says of states on the disk, of forks and of calls that fail half way.
import { execFileSync } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { withFault } from '../crash/fault-points.js'
import { FILLED_BYTES, startFiller, tell } from '../support/filler.js'
import { startPython } from '../support/python.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()

/** How often the engine looks how much is on the disk. */
const MEASURES_EACH_MS = 1000

const create = () => Sandbox.create({ workspace: state.workspace })
const storeOf = (sandbox: Sandbox) => join(state.stateDir, 'sandboxes', sandbox.id, 'store')
const onTheDisk = (sandbox: Sandbox) =>
  until('all is on the disk', async () => (await sandbox.listCheckpoints()).checkpoints.every(({ durable }) => durable))

/** Replaces a text in the head of an image (image_store.cc), and its checksum (packed_record.cc), by libxxhash. */
const REWRITE_HEAD = `
import ctypes, struct, sys
path, old, new = sys.argv[1], sys.argv[2].encode(), sys.argv[3].encode()
file = open(path, 'rb').read()
length, = struct.unpack_from('<Q', file)
record, rest = file[8:8 + length], file[8 + length:]
magic, version, size, checksum = struct.unpack_from('<4sIQQ', record)
xxh3 = ctypes.CDLL('libxxhash.so').XXH3_64bits
xxh3.restype, xxh3.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
payload = record[24:]
assert xxh3(payload, len(payload)) == checksum and len(old) == len(new) and payload.count(old) == 1
payload = payload.replace(old, new)
record = struct.pack('<4sIQQ', magic, version, size, xxh3(payload, len(payload))) + payload
open(path, 'r+b').write(file[:8] + record + rest)
`

test('processes that another kernel wrote down do not come back; their files do, and strict changes nothing', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace, durability: 'processes' })
  const filler = await startFiller(sandbox)
  const first = await tell(filler, 'fill first')
  await sandbox.files.write('number', '1')
  const here = await sandbox.checkpoint()
  await tell(filler, 'fill second')
  await sandbox.files.write('number', '2')
  const elsewhere = await sandbox.checkpoint()
  await onTheDisk(sandbox)
  process.kill((await sandbox.getInfo()).enginePid, 'SIGKILL')
  const release = execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim()
  const other = release.replace(/^\d/, (digit) => (digit === '9' ? '8' : '9'))
  execFileSync('python3', [
    '-c',
    REWRITE_HEAD,
    join(storeOf(sandbox), 'images', elsewhere.id),
    `${release} `,
    `${other} `,
  ])

  await using again = await Sandbox.connect(sandbox.id)
  const incompatible = expect.stringMatching(`COLD_INCOMPATIBLE.*under kernel ${other} `) as string
  expect((await again.getInfo()).warnings.join()).toContain(`under kernel ${other}`)
  expect(await again.files.read('number')).toBe('2')
  await again.rollback(here, { strict: true })
  const filled = await again.commands.connect(filler.commandId)
  expect(await tell(filled, 'tell')).toBe(first)
  await expect(again.rollback(elsewhere, { strict: true })).rejects.toMatchObject({ code: 'COLD_INCOMPATIBLE' })
  expect(await again.files.read('number')).toBe('1')
  expect(await tell(filled, 'tell')).toBe(first)
  const { notRestored } = await again.rollback(elsewhere)
  expect(notRestored).toMatchObject([{ kind: 'process', reason: incompatible }])
  expect(await again.files.read('number')).toBe('2')
  expect((await again.getInfo()).tasks).toBe(0)
})

test('what was reported at a checkpoint is neither in a fork nor in what another engine goes on with, which both say', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace, durability: 'processes' })
  const python = await startPython(
    sandbox,
    'import os, socket\nheld = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)',
  )
  const checkpoint = await sandbox.checkpoint()
  expect(checkpoint.warnings).toMatchObject([{ pid: python.command.pid, kind: 'socket' }])
  await onTheDisk(sandbox)
  const isOpen = `test -e /proc/${python.command.pid}/fd/3 && echo open || echo closed`
  expect((await sandbox.commands.run(isOpen)).stdout).toBe('open\n')
  const { sandboxes } = await sandbox.fork({ from: checkpoint })
  process.kill((await sandbox.getInfo()).enginePid, 'SIGKILL')
  for (const other of [...sandboxes, await Sandbox.connect(sandbox.id)]) {
    expect((await other.getInfo()).warnings.join()).toMatch(/socket/)
    expect((await other.commands.run(isOpen)).stdout).toBe('closed\n')
    await other.kill()
  }
})

test('forks read pages from one file, and each has all of them in its own memory', async () => {
  await using sandbox = await create()
  const filler = await startFiller(sandbox)
  const said = await tell(filler, 'fill both')
  const { sandboxes } = await sandbox.fork({ count: 2 })
  const files = sandboxes.map((fork) =>
    readdirSync(join(storeOf(fork), 'pages')).map((name) => join(storeOf(fork), 'pages', name)),
  )
  const inodes = files.map((paths) => paths.map((path) => statSync(path).ino))
  expect(inodes[0]).toEqual(inodes[1])
  expect(files[0]!.reduce((sum, path) => sum + statSync(path).size, 0)).toBeGreaterThan(FILLED_BYTES)
  for (const fork of sandboxes) {
    const rollup = (await fork.commands.run(`cat /proc/${filler.pid}/smaps_rollup`)).stdout
    expect(Number(/Private_Dirty: +(\d+) kB/.exec(rollup)![1]) * 1024).toBeGreaterThan(FILLED_BYTES)
    expect(await tell(await fork.commands.connect(filler.commandId), 'tell')).toBe(said)
    await fork.kill()
  }
})

test('a fork has the host name and the machine id of its lender', async () => {
  await using sandbox = await create()
  const look = async (from: Sandbox) =>
    (await from.commands.run('hostname; cat /etc/machine-id /etc/hostname 2>&1')).stdout
  const { sandboxes } = await sandbox.fork()
  expect(await look(sandboxes[0]!)).toBe(await look(sandbox))
  await sandboxes[0]!.kill()
})

test('images and page files do not count in limits.diskBytes, and do in what metrics tell', async () => {
  await using sandbox = await Sandbox.create({
    workspace: state.workspace,
    durability: 'processes',
    limits: { diskBytes: FILLED_BYTES / 2 },
  })
  await tell(await startFiller(sandbox), 'fill pages')
  await sandbox.checkpoint()
  await onTheDisk(sandbox)
  const sizes = readdirSync(join(storeOf(sandbox), 'pages')).map(
    (name) => statSync(join(storeOf(sandbox), 'pages', name)).size,
  )
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeGreaterThan(FILLED_BYTES)
  expect((await sandbox.getMetrics()).diskBytes).toBeGreaterThan(FILLED_BYTES)
  await sleep(MEASURES_EACH_MS * 2)
  expect((await sandbox.getInfo()).tasks).toBe(1)
  await sandbox.files.write('more', 'x')
  await sandbox.checkpoint()
})

test('a checkpoint that fails in the middle of its switch ends all processes and says so; the one before it is whole', async () => {
  // The first checkpoint seals the workspace and /root.
  await using sandbox = await withFault('after-one-switch:2:fail', create)
  const filler = await startFiller(sandbox)
  const first = await tell(filler, 'fill first')
  await sandbox.files.write('number', '1')
  const whole = await sandbox.checkpoint()
  expect(whole.changedVolumes).toBe(2)
  await tell(filler, 'fill second')
  await sandbox.files.write('number', '2')
  await sandbox.files.write('/root/number', '2')
  await expect(sandbox.checkpoint()).rejects.toMatchObject({
    message: expect.stringMatching('failed half way .* all processes of the sandbox were ended') as string,
  })
  expect((await sandbox.getInfo()).tasks).toBe(0)
  expect((await sandbox.listCheckpoints()).checkpoints.map(({ id }) => id)).toEqual([whole.id])
  expect(await sandbox.files.read('number')).toBe('2')
  expect(await sandbox.files.read('/root/number')).toBe('2')
  expect((await sandbox.rollback(whole)).notRestored).toEqual([])
  expect(await tell(await sandbox.commands.connect(filler.commandId), 'tell')).toBe(first)
  expect(await sandbox.files.read('number')).toBe('1')
})

// What the edit of one line of a large file costs on the disk, counted where it is written: blocks that the file system
// has less, bytes that the tasks write (overlayfs copies a file up in the task that opens it for writing) and the engine.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { Disk } from '../support/disk.js'
import { startPython } from '../support/python.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const isRoot = process.getuid?.() === 0
const FILE_BYTES = 4 << 20
const PAGE_BYTES = 4096
// Of the checkpoint and of the live state.
const RECORDS_BYTES = 64 << 10
const EDITS = 8
const XFS_MAGIC = 0x58465342

interface Cost {
  /** Blocks that an XFS has less. */
  taken: number
  tasks: number
  engine: number
  /** Copied by the engine. */
  copied: number
}

const writtenBytes = (pid: number) => Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))![1])

function takenBytes(): number {
  // Elsewhere others write, too.
  if (statfsSync(state.stateDir).type !== XFS_MAGIC) return 0
  execFileSync('sync', ['-f', state.stateDir])
  // It sets 128 KiB aside for what else may be written near a block that was shared, and takes it back some minutes later.
  execFileSync('xfs_spaceman', ['-c', 'prealloc -s', state.stateDir])
  const { blocks, bfree, bsize } = statfsSync(state.stateDir)
  return (blocks - bfree) * bsize
}

/** What it takes to have an edit and a checkpoint that is safe on the disk. */
async function costOf(sandbox: Sandbox, edit: () => Promise<unknown>): Promise<Cost> {
  const { enginePid, initPid } = await sandbox.getInfo()
  // Of tasks that have ended, pid 1 has what they wrote.
  const look = () => ({ taken: takenBytes(), tasks: writtenBytes(initPid), engine: writtenBytes(enginePid) })
  const before = look()
  await edit()
  const { id, copiedOpenFileBytes } = await sandbox.checkpoint({ strict: true })
  await untilDurable(sandbox, id)
  const after = look()
  return {
    taken: after.taken - before.taken,
    tasks: after.tasks - before.tasks,
    engine: after.engine - before.engine,
    copied: copiedOpenFileBytes,
  }
}

async function untilDurable(sandbox: Sandbox, id: string): Promise<void> {
  await until('it is durable', async () =>
    (await sandbox.listCheckpoints()).checkpoints.some((checkpoint) => checkpoint.id === id && checkpoint.durable),
  )
}

/** One line in the middle, by a program that opens the file for it. */
async function editLine(sandbox: Sandbox): Promise<void> {
  const line = `f = open('large', 'r+b'); f.seek(${FILE_BYTES / 2}); f.write(str(__import__('time').time_ns()).encode())`
  expect((await sandbox.commands.run(['python3', '-c', line])).stderr).toBe('')
}

/** The medians of what such an edit costs, each with a checkpoint of its own. */
async function costOfEdits(sandbox: Sandbox, edit = () => editLine(sandbox) as Promise<unknown>): Promise<Cost> {
  const costs: Cost[] = []
  for (let round = 0; round < EDITS; round++) costs.push(await costOf(sandbox, edit))
  const median = (pick: (cost: Cost) => number) => costs.map(pick).sort((a, b) => a - b)[EDITS / 2]!
  return {
    taken: median(({ taken }) => taken),
    tasks: median(({ tasks }) => tasks),
    engine: median(({ engine }) => engine),
    copied: median(({ copied }) => copied),
  }
}

/** A program that holds the file open for writing, and the same edit by it. */
async function holdOpen(sandbox: Sandbox): Promise<() => Promise<string>> {
  const python = await startPython(sandbox, `import os, time; fd = os.open('large', os.O_RDWR)`)
  return () => python.run(`print(os.pwrite(fd, str(time.time_ns()).encode(), ${FILE_BYTES / 2}))`)
}

const writeLargeFile = (workspace: string) =>
  writeFileSync(join(workspace, 'large'), Buffer.alloc(FILE_BYTES, 'a line\n'))

/** The state directory on an XFS of its own, where files share extents; `use` gets where else there is room on it. */
async function onXfs(use: (elsewhere: string) => Promise<void>): Promise<void> {
  const mountPoint = join(dirname(state.stateDir), 'xfs')
  mkdirSync(mountPoint)
  const disk = Disk.make('xfs', `${mountPoint}.image`, mountPoint)
  state.stateDir = join(mountPoint, 'state')
  process.env['DELTABOX_STATE_DIR'] = state.stateDir
  mkdirSync(state.stateDir)
  try {
    await use(mountPoint)
  } finally {
    for (const { id } of await Sandbox.list()) await Sandbox.kill(id)
    await disk.unmount()
  }
}

function expectPageAndRecords({ taken, tasks, engine, copied }: Cost): void {
  expect(tasks).toBeLessThanOrEqual(2 * PAGE_BYTES)
  expect(engine).toBeLessThanOrEqual(RECORDS_BYTES)
  expect(copied).toBe(0)
  expect(taken).toBeLessThanOrEqual(PAGE_BYTES + RECORDS_BYTES)
}

// Root without loop devices fails here.
test.runIf(isRoot)('where files share extents an edit costs a page and records, once the file is in the store', () =>
  onXfs(async () => {
    writeLargeFile(state.workspace)
    await using sandbox = await Sandbox.create({ workspace: state.workspace })
    await untilDurable(sandbox, (await sandbox.checkpoint()).id)
    // The workspace lies on another file system, with which nothing is shared.
    const first = await costOf(sandbox, () => editLine(sandbox))
    expect(first.taken).toBeGreaterThanOrEqual(FILE_BYTES)
    expectPageAndRecords(await costOfEdits(sandbox))
    // What a program holds open the engine copies at the seal: sharing, too.
    expectPageAndRecords(await costOfEdits(sandbox, await holdOpen(sandbox)))
  }),
)

test.runIf(isRoot)('with the workspace on the same file system so does the first one', () =>
  onXfs(async (elsewhere) => {
    const workspace = join(elsewhere, 'workspace')
    mkdirSync(workspace)
    writeLargeFile(workspace)
    await using sandbox = await Sandbox.create({ workspace })
    await untilDurable(sandbox, (await sandbox.checkpoint()).id)
    expectPageAndRecords(await costOf(sandbox, () => editLine(sandbox)))
  }),
)

test.runIf(isRoot)('elsewhere it costs a copy of the file, by the task or at the seal', async () => {
  writeLargeFile(state.workspace)
  if (sharesExtents(state.workspace)) return // The default disk of this machine is such a file system.
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const closed = await costOfEdits(sandbox)
  expect(closed.tasks).toBeGreaterThanOrEqual(FILE_BYTES)
  expect(closed.copied).toBe(0)
  const held = await costOfEdits(sandbox, await holdOpen(sandbox))
  expect(held.copied).toBe(FILE_BYTES)
  expect(held.engine).toBeGreaterThanOrEqual(FILE_BYTES)
})

function sharesExtents(dir: string): boolean {
  const { status } = spawnSync('cp', ['--reflink=always', join(dir, 'large'), join(dir, 'copy')])
  rmSync(join(dir, 'copy'), { force: true })
  return status === 0
}

// The machine crashes: all that no sync has brought to the disk is lost, the journal is replayed, the boot id is another.
// What had been reported durable is whole, and nothing is half there.
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { DeltaboxError, Sandbox } from '../../src/index.js'
import { SeededRandom } from '../model/random.js'
import { until, useTestState } from '../support/state.js'
import { Disk } from '../support/disk.js'

const state = useTestState({ altersLayers: true })
const isRoot = process.getuid?.() === 0
const VICTIM = new URL('victim.mjs', import.meta.url).pathname
const OTHER_BOOT = '00000000-1111-2222-3333-444444444444\n'
const ROUNDS = Number(process.env['CRASH_MACHINE_ROUNDS'] ?? 3)
const FIRST_SEED = Number(process.env['CRASH_SEED'] ?? 1)
const LONGEST_LIFE_MS = 1500
const MOST_COMPARED = 8

type Hashes = Record<string, string>
interface Line {
  id?: string
  enginePid?: number
  files?: Hashes
  next?: Hashes
  durable?: string[]
}

/** What the victim had said before the crash. */
interface Said {
  id: string
  enginePid: number
  checkpoints: Map<string, Hashes>
  /** Of the checkpoint in flight, if it was. */
  next: Hashes
  durable: Set<string>
}

const LIST = `
import hashlib, json, os
found = {}
for top in ('/workspace', '/tmp'):
    for parent, _, names in os.walk(top):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, 'rb') as file: found[path] = hashlib.sha256(file.read()).hexdigest()
print(json.dumps(found))`

const filesOf = async (sandbox: Sandbox) =>
  JSON.parse((await sandbox.commands.run(['python3', '-c', LIST])).stdout) as Hashes

/** A sandbox of another boot, until the disk loses what it has not synced; its engine has ended then. */
async function liveAndCrash(disk: Disk, lifeMs: number): Promise<Said> {
  const bootId = join(dirname(state.stateDir), 'boot_id')
  writeFileSync(bootId, OTHER_BOOT)
  // A user namespace may mount /proc only while one that nothing covers is there.
  const proc = join(dirname(state.stateDir), 'proc')
  mkdirSync(proc, { recursive: true })
  const steps = 'mount -t proc proc "$1" && mount --bind "$2" /proc/sys/kernel/random/boot_id && exec "$3" "$4" "$5"'
  const args = [proc, bootId, process.execPath, VICTIM, state.workspace]
  const victim = spawn('unshare', ['-m', 'sh', '-c', steps, 'sh', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const said: Said = { id: '', enginePid: 0, checkpoints: new Map(), next: {}, durable: new Set() }
  const lines = createInterface({ input: victim.stdout })
  const allSaid = new Promise((resolve) => lines.once('close', resolve))
  let errors = ''
  victim.stderr.on('data', (chunk) => (errors += String(chunk)))
  lines.on('line', (text) => {
    const line = JSON.parse(text) as Line
    if (line.enginePid !== undefined) Object.assign(said, { id: line.id, enginePid: line.enginePid })
    else if (line.next !== undefined) said.next = line.next
    else if (line.files !== undefined) said.checkpoints.set(line.id!, line.files)
    for (const id of line.durable ?? []) said.durable.add(id)
  })
  try {
    await until(
      'two durable checkpoints',
      () => {
        if (victim.exitCode !== null) throw new Error(`the victim ended: ${errors}`)
        return said.durable.size >= 2
      },
      30_000,
    )
    await new Promise((resolve) => setTimeout(resolve, lifeMs))
    if (victim.exitCode !== null) throw new Error(`the victim ended: ${errors}`)
    // Blocks this thread: what the victim calls durable from here on does not count.
    const durable = new Set(said.durable)
    disk.loseUnsynced()
    victim.kill('SIGKILL')
    await allSaid
    return { ...said, durable }
  } finally {
    victim.kill('SIGKILL')
    try {
      if (said.enginePid !== 0) process.kill(said.enginePid, 'SIGKILL')
    } catch {
      // It ended with its disk.
    }
  }
}

async function verify(said: Said): Promise<{ durable: number; listed: number; named: number }> {
  const sandbox = await Sandbox.connect(said.id)
  const { warnings, head } = await sandbox.getInfo()
  const told = warnings.join('\n')
  expect(told).toContain('the machine was started anew since')
  const listed = (await sandbox.listCheckpoints()).checkpoints.map(({ id }) => id)
  for (const id of said.durable) expect(listed, `${id} was durable\n${told}`).toContain(id)
  expect(await filesOf(sandbox), `the head, ${head}`).toEqual(said.checkpoints.get(head!) ?? said.next)
  let named = 0
  const newest = [...said.checkpoints.keys()].slice(-MOST_COMPARED)
  for (const [id, files] of said.checkpoints) {
    if (listed.includes(id)) {
      if (!newest.includes(id) && [...id].at(-1) !== '3') continue // takes long, and one of ten of the older ones will do
      await sandbox.rollback(id, { redo: false })
      expect(await filesOf(sandbox), id).toEqual(files)
      continue
    }
    const refusal = await sandbox.rollback(id).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(DeltaboxError)
    const { code } = refusal as DeltaboxError
    expect(['DAMAGED', 'CHECKPOINT_NOT_FOUND']).toContain(code)
    if (code === 'DAMAGED') expect(told).toContain(`checkpoint ${id} can't be used`)
    named++
  }
  // No id is given twice, and the sandbox goes on.
  await sandbox.files.write('after', 'x')
  const { id } = await sandbox.checkpoint()
  expect([...said.checkpoints.keys()].filter((known) => told.includes(known) || listed.includes(known))).not.toContain(
    id,
  )
  await until('it is durable', async () =>
    (await sandbox.listCheckpoints()).checkpoints.some((checkpoint) => checkpoint.id === id && checkpoint.durable),
  )
  await sandbox.kill()
  return { durable: said.durable.size, listed: listed.length, named }
}

// Only root can mount a file system that it can take away. Root without loop devices fails here.
test.runIf(isRoot).each(['ext4', 'xfs'] as const)(
  'on %s, durable checkpoints survive the loss of all that was not synced',
  async (kind) => {
    mkdirSync(state.stateDir, { recursive: true })
    const disk = Disk.make(kind, join(dirname(state.stateDir), 'image'), state.stateDir)
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const random = new SeededRandom(FIRST_SEED + round)
        const said = await liveAndCrash(disk, random.below(LONGEST_LIFE_MS))
        await disk.unmount()
        await disk.mountAfterLoss()
        const counts = await verify(said)
        if (process.env['CRASH_MACHINE_ROUNDS'] !== undefined) console.log(kind, FIRST_SEED + round, counts)
      }
    } finally {
      // A file system that was taken away lists nothing; what failed before is what matters.
      for (const { id } of await Sandbox.list().catch(() => [])) await Sandbox.kill(id).catch(() => undefined)
      await disk.unmount()
    }
  },
  30_000 + ROUNDS * 40_000,
)

// A client gets SIGKILL in the middle of a call: the engine finishes the call or drops it, another client goes on, and a
// call that is said again with its key is not carried out twice.
import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { SeededRandom } from '../model/random.js'
import { until, useTestState } from '../support/state.js'
import { FAULT_POINTS } from './fault-points.js'

const state = useTestState()
const CLIENT = new URL('client.mjs', import.meta.url).pathname
const ROUNDS = 4
const PASSES = 3

interface Line {
  id?: string
  enginePid?: number
  doing?: string
  done?: string
  n?: number
  to?: string
  number?: number
}

class Client {
  readonly said: Line[] = []
  readonly #child: ChildProcess
  #errors = ''

  constructor(kind: string, options: { fault?: string; id?: string } = {}) {
    const { DELTABOX_FAULT: _, ...env } = process.env
    this.#child = spawn(
      process.execPath,
      [CLIENT, kind, state.workspace, ...(options.id === undefined ? [] : [options.id])],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...env, ...(options.fault !== undefined && { DELTABOX_FAULT: options.fault }) },
      },
    )
    this.#child.stderr!.on('data', (chunk) => (this.#errors += String(chunk)))
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.said.push(JSON.parse(line) as Line))
  }

  async heard(what: string, condition: (line: Line) => boolean): Promise<Line> {
    await until(
      what,
      () => {
        if (this.#child.exitCode !== null) throw new Error(`the client ended: ${this.#errors}`)
        return this.said.some(condition)
      },
      30_000,
    )
    return this.said.find(condition)!
  }

  async kill(): Promise<void> {
    const closed = new Promise((resolve) => this.#child.once('close', resolve))
    this.#child.kill('SIGKILL')
    await closed
  }
}

const number = (sandbox: Sandbox) => sandbox.files.read('number')

/** What the client that is dead now was told, and the call in flight, said again with its key. */
async function verify(sandbox: Sandbox, said: readonly Line[]): Promise<void> {
  const saved = new Map<string, number>()
  for (const line of said) if (line.done?.startsWith('cp-')) saved.set(line.done, line.n!)
  for (const line of said) if (line.doing === 'delete') saved.delete(line.id!)
  const last = said.at(-1)!
  if (last.doing === 'checkpoint') {
    const again = await sandbox.checkpoint({ idempotencyKey: `key-${last.n}` })
    expect((await sandbox.checkpoint({ idempotencyKey: `key-${last.n}` })).id).toBe(again.id)
    saved.set(again.id, last.n!)
  } else if (last.doing === 'rollback') {
    await sandbox.rollback(last.to!, { redo: false, idempotencyKey: `key-${last.n}` })
    expect(await number(sandbox)).toBe(String(last.number))
    // A second answer, not a second rollback.
    await sandbox.files.write('number', 'kept')
    await sandbox.rollback(last.to!, { redo: false, idempotencyKey: `key-${last.n}` })
    expect(await number(sandbox)).toBe('kept')
  }
  const deleting = last.doing === 'delete' ? last.id : undefined
  const listed = (await sandbox.listCheckpoints()).checkpoints.map(({ id }) => id).filter((id) => id !== deleting)
  expect(listed.sort()).toEqual([...saved.keys()].sort())
  for (const [id, n] of saved) {
    await sandbox.rollback(id, { redo: false })
    expect(await number(sandbox), id).toBe(String(n))
  }
}

const isStopped = (pid: number) => /^\d+ \(.*\) T/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))

// Merges and their like run beside the calls; there the client dies with one of its calls in flight, or between two.
// Two points take files with several names that are open, which this client does not make.
const reached = FAULT_POINTS.filter((point) => point !== 'between-names' && point !== 'files-corrected')
test.each(reached)('a client that dies while the engine is at %s', async (point) => {
  const client = new Client('mixed', { fault: `${point}:${PASSES}:stop` })
  const { id, enginePid } = await client.heard('its sandbox', (line) => line.enginePid !== undefined)
  try {
    await until('the engine is there', () => isStopped(enginePid!), 40_000)
  } finally {
    await client.kill()
    process.kill(enginePid!, 'SIGCONT')
  }
  const sandbox = await Sandbox.connect(id!)
  expect((await sandbox.getInfo()).enginePid).toBe(enginePid)
  await verify(sandbox, client.said)
})

test.each(['checkpoint', 'rollback'])('clients that die in a %s at any moment', async (kind) => {
  const random = new SeededRandom(7)
  for (let round = 0; round < ROUNDS; round++) {
    const client = new Client(kind)
    const { id, enginePid } = await client.heard('its sandbox', (line) => line.enginePid !== undefined)
    await client.heard('a checkpoint', (line) => line.done !== undefined)
    await new Promise((resolve) => setTimeout(resolve, random.below(200)))
    await client.kill()
    const sandbox = await Sandbox.connect(id!)
    expect((await sandbox.getInfo()).enginePid).toBe(enginePid)
    await verify(sandbox, client.said)
    await sandbox.kill()
  }
})

test('clients that die in a write of many pieces leave the old file and no other', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.files.write('big', 'old')
  const random = new SeededRandom(9)
  for (let round = 0; round < ROUNDS; round++) {
    const client = new Client('write', { id: sandbox.id })
    await client.heard('a write', (line) => line.doing === 'write')
    await new Promise((resolve) => setTimeout(resolve, random.below(150)))
    await client.kill()
    const whole = client.said.some(({ done }) => done === 'write')
    // The engine notices a hang-up in its own time.
    await until('the temporary is gone', async () => {
      const names = (await sandbox.files.list('.')).map(({ name }) => name)
      return names.join() === 'README.md,big,src'
    })
    const { sizeBytes } = await sandbox.files.getInfo('big')
    if (!whole) expect([3, 256 << 20]).toContain(sizeBytes)
    await sandbox.files.write('big', 'old')
    const { id } = await sandbox.checkpoint()
    await sandbox.rollback(id)
    expect(await sandbox.files.read('big')).toBe('old')
  }
})

test('a foreground command ends with its client, and the sandbox goes on', async () => {
  const client = new Client('command')
  const { id, enginePid } = await client.heard('its sandbox', (line) => line.enginePid !== undefined)
  const sandbox = await Sandbox.connect(id!)
  await until('the command', () => sandbox.files.exists('pid'))
  await client.kill()
  await until('its end', async () => (await sandbox.getMetrics()).runningCommands === 0)
  const { id: checkpoint } = await sandbox.checkpoint()
  await sandbox.rollback(checkpoint)
  expect((await sandbox.getInfo()).enginePid).toBe(enginePid)
})

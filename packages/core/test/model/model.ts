// Random operations in a sandbox against the same operations on a plain copy, with checkpoints and rollbacks between.
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DeltaboxError, Sandbox } from '../../src/index.js'
import { differences } from '../support/reader.js'
import { LayerHashes } from '../support/layer-hashes.js'
import { changedSince, differsFromReplica } from './compare.js'
import type { Expectations } from './expectations.js'
import { LineProcess, type Call, type Outcome, type Snapshot } from './line-process.js'
import { SeededRandom } from './random.js'
import { Replica, type History } from './replica.js'

const guestDir = fileURLToPath(new URL('./guest/', import.meta.url))
const INSIDE = '/var/lib/model'
const ROOTS = ['/workspace/model', '/tmp/model']
const BATCH_SIZES = [1, 1, 4, 8, 16, 24]
const MAX_SHOWN = 12
/** Neighbouring layers become one by four: more seals in a row let layers of merged ones merge, too. */
const BURST_CHECKPOINTS = 6
const BUSY_ATTEMPTS = 5

/** One step of a run, enough to repeat it. */
export type ModelEvent =
  | { readonly kind: 'calls'; readonly calls: readonly Call[] }
  | { readonly kind: 'checkpoint' }
  | { readonly kind: 'rollback'; readonly to: number; readonly redo: boolean }
  | { readonly kind: 'delete'; readonly which: number }

export interface ModelOptions {
  readonly seed: number
  /** How many calls to draw at least. */
  readonly steps: number
  readonly switches: Expectations
  /** An empty directory; holds state, workspace, plain copies and, after a failure, the events. */
  readonly dir: string
  /** Repeats these instead of drawing. */
  readonly events?: readonly ModelEvent[]
}

export interface ModelCounts {
  calls: number
  failedCalls: number
  checkpoints: number
  rollbacks: number
  deletions: number
  comparisons: number
  layersHashed: number
}

/** Where the sandbox and what it should be part, or something else went wrong. */
export class ModelFailure extends Error {
  constructor(
    message: string,
    /** What was compared: the same defect says the same, whatever led to it. */
    readonly what: string,
    readonly events: readonly ModelEvent[],
    cause: unknown,
  ) {
    super(message, { cause })
  }
}

class Difference extends Error {
  constructor(
    readonly what: string,
    found: readonly string[],
  ) {
    super(`${what}:\n  ${found.slice(0, MAX_SHOWN).join('\n  ')}`)
  }
}

interface Recorded {
  readonly id: string
  readonly state: Snapshot
  readonly history: History | undefined
}

/** Runs the model once, in a sandbox of its own, and ends it. */
export async function runModel(options: ModelOptions): Promise<ModelCounts> {
  const workspace = join(options.dir, 'workspace')
  mkdirSync(workspace, { recursive: true })
  const sandbox = await Sandbox.create({ workspace })
  const layers = await LayerHashes.start(sandbox)
  let run: Run | undefined
  try {
    const [guest, greeting] = await startGuest(sandbox)
    run = new Run(sandbox, guest, await Replica.start(options.dir, greeting, options.switches), layers, options)
    await run.all()
    run.counts.layersHashed = layers.count
    return run.counts
  } catch (error) {
    if (run === undefined) throw error
    throw describeFailure(error, run)
  } finally {
    run?.replica.end()
    layers.end()
    await sandbox.kill()
  }
}

async function startGuest(sandbox: Sandbox): Promise<[LineProcess, unknown]> {
  await sandbox.commands.run(['mkdir', '-p', INSIDE])
  for (const name of readdirSync(guestDir).filter((file) => file.endsWith('.py'))) {
    await sandbox.files.write(`${INSIDE}/${name}`, readFileSync(join(guestDir, name)))
  }
  return LineProcess.inSandbox(sandbox, ['python3', `${INSIDE}/main.py`, ...ROOTS])
}

class Run {
  readonly events: ModelEvent[] = []
  readonly counts: ModelCounts = {
    calls: 0,
    failedCalls: 0,
    checkpoints: 0,
    rollbacks: 0,
    deletions: 0,
    comparisons: 0,
    layersHashed: 0,
  }
  /** By number; undefined: deleted. */
  readonly #recorded: (Recorded | undefined)[] = []
  readonly #random: SeededRandom

  constructor(
    readonly sandbox: Sandbox,
    readonly guest: LineProcess,
    readonly replica: Replica,
    readonly layers: LayerHashes,
    readonly options: ModelOptions,
  ) {
    this.#random = new SeededRandom(options.seed)
  }

  async all(): Promise<void> {
    if (this.options.events === undefined) {
      while (this.counts.calls < this.options.steps) await this.#draw()
      await this.#checkpoint()
    } else {
      for (const event of this.options.events) await this.#repeat(event)
    }
    await this.layers.verify()
  }

  async #draw(): Promise<void> {
    if (this.events.length === 0 || this.#random.chance(55)) {
      const seed = this.#random.below(2 ** 31)
      await this.#calls(() => this.replica.draw(seed, this.#random.pick(BATCH_SIZES)))
    } else if (this.#recorded.length === 0 || this.#random.chance(55)) await this.#checkpoint()
    else if (this.#random.chance(12)) await this.#delete(this.#random.below(this.#recorded.length))
    else if (this.#random.chance(5)) await this.#burst()
    else await this.#rollback(this.#random.below(this.#recorded.length), this.#random.chance(70))
  }

  /** Many layers at once, which the engine merges meanwhile. */
  async #burst(): Promise<void> {
    for (let count = 0; count < BURST_CHECKPOINTS; count++) {
      const seed = this.#random.below(2 ** 31)
      await this.#calls(() => this.replica.draw(seed, 2))
      await this.#checkpoint()
    }
  }

  async #repeat(event: ModelEvent): Promise<void> {
    if (event.kind === 'calls') await this.#calls(() => this.replica.repeat(event.calls))
    else if (event.kind === 'checkpoint') await this.#checkpoint()
    else if (event.kind === 'rollback') await this.#rollback(event.to, event.redo)
    else await this.#delete(event.which)
  }

  async #calls(perform: () => Promise<{ call: Call; outcome: Outcome }[]>): Promise<void> {
    const expected = await perform()
    const calls = expected.map(({ call }) => call)
    this.events.push({ kind: 'calls', calls })
    const outcomes = (await this.guest.ask({ kind: 'run', calls })) as Outcome[]
    for (const [index, { call, outcome }] of expected.entries()) {
      this.counts.calls++
      if ('error' in outcome) this.counts.failedCalls++
      const found = differences(outcome, outcomes[index]).map((line) => `${JSON.stringify(call).slice(0, 500)} ${line}`)
      this.#expectNone(found, `what ${call[0]} returns`)
    }
  }

  /** What the sandbox shows, which must be what the plain copy shows. */
  async #state(): Promise<Snapshot> {
    const replica = await this.replica.state()
    const state = (await this.guest.ask({ kind: 'state', locks: this.options.switches.locks })) as Snapshot
    this.counts.comparisons++
    this.#expectNone(differsFromReplica(replica, state, this.options.switches), 'the sandbox beside the plain copy')
    return state
  }

  async #checkpoint(): Promise<void> {
    const state = await this.#state()
    this.events.push({ kind: 'checkpoint' })
    const { id, warnings } = await whenQuiet(() => this.sandbox.checkpoint())
    this.counts.checkpoints++
    await this.layers.observe()
    this.#expectNone(
      warnings.map(({ reason }) => reason),
      'warnings of a checkpoint',
    )
    await this.#expectState(state, 'the state after a checkpoint beside the state before it')
    await this.replica.sealed()
    this.#recorded.push({ id, state, history: this.replica.history })
  }

  async #rollback(to: number, redo: boolean): Promise<void> {
    const target = this.#recorded[to]
    if (target === undefined) return
    const state = redo ? await this.#state() : undefined
    const { history } = this.replica
    this.events.push({ kind: 'rollback', to, redo })
    const { notRestored, safetyCheckpoint } = await whenQuiet(() => this.sandbox.rollback(target.id, { redo }))
    this.counts.rollbacks++
    await this.layers.observe()
    // The guest writes all of a private mapping, and that comes back even when its file can't be mapped again.
    const lost = notRestored.filter(({ kind }) => kind !== 'mapping')
    this.#expectNone(
      lost.map(({ reason }) => reason),
      'what a rollback did not restore',
    )
    await this.#expectState(target.state, 'the state after a rollback beside that of its checkpoint')
    if (state !== undefined && safetyCheckpoint !== null) {
      // It sealed what was there.
      this.#recorded.push({ id: safetyCheckpoint, state, history: { step: null, before: history } })
    }
    await this.replica.returnTo(target.history)
    this.#expectNone(
      differsFromReplica(await this.replica.state(), target.state, this.options.switches),
      'the plain copy after its replay',
    )
  }

  /** Others stay what they are, which later rollbacks show. */
  async #delete(which: number): Promise<void> {
    const checkpoint = this.#recorded[which]
    if (checkpoint === undefined) return
    this.events.push({ kind: 'delete', which })
    await this.sandbox.deleteCheckpoint(checkpoint.id)
    this.#recorded[which] = undefined
    this.counts.deletions++
  }

  async #expectState(wanted: Snapshot, what: string): Promise<void> {
    const state = (await this.guest.ask({ kind: 'state', locks: this.options.switches.locks })) as Snapshot
    this.counts.comparisons++
    this.#expectNone(changedSince(wanted, state, this.options.switches), what)
  }

  #expectNone(found: readonly string[], what: string): void {
    if (found.length > 0) throw new Difference(what, found)
  }
}

/** Keeps the events in the work directory and says how to come here again. */
function describeFailure(error: unknown, { events, counts, options, sandbox }: Run): ModelFailure {
  const file = join(options.dir, 'failure.json')
  const text = error instanceof Error ? error.message : String(error)
  writeFileSync(file, JSON.stringify({ seed: options.seed, text, events }))
  // The rest of the sandbox goes with its end.
  const log = join(process.env['DELTABOX_STATE_DIR'] ?? '', 'sandboxes', sandbox.id, 'engine.log')
  if (existsSync(log)) copyFileSync(log, join(options.dir, 'engine.log'))
  const lines = [
    `seed ${options.seed}, after ${counts.calls} calls and ${events.length} events: ${text}`,
    options.events === undefined ? `repeat: npm run soak -- --seed ${options.seed} --steps ${counts.calls + 1}` : '',
    `all events: ${file}`,
  ]
  // Numbers of tasks and checkpoints differ from run to run.
  const what = error instanceof Difference ? error.what : text.replace(/\d+/g, 'N')
  return new ModelFailure(lines.filter(Boolean).join('\n'), what, events, error)
}

/** On a busy machine a freeze can be refused, which changes nothing. */
async function whenQuiet<Value>(attempt: () => Promise<Value>): Promise<Value> {
  for (let left = BUSY_ATTEMPTS; ; left--) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof DeltaboxError) || error.code !== 'BUSY' || left <= 1) throw error
    }
  }
}

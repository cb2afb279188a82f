// A program that changes itself at random, rolled back to states of which an independent reader remembers everything.
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Sandbox } from '../../src/index.js'
import { removeTree } from '../../src/state/remove-tree.js'
import { SeededRandom } from '../model/random.js'
import { Session } from '../programs/session.js'
import { killAll, killOne, processesOf } from '../support/processes.js'
import { differences, readState, type State } from '../support/reader.js'

const PARENT = process.env['DELTABOX_TEST_DIR'] ?? '/var/tmp'
const programSource = readFileSync(new URL('./program.py', import.meta.url), 'utf8')
const READINGS = 6
const MAX_SHOWN = 15
const SHOWN_BEFORE = 400 // characters
const SHOWN_AFTER = 200
const KEPT_CHECKPOINTS = 8

/** One step of a run, enough to repeat it. Checkpoints count from 0. */
export type ProcessEvent =
  | { readonly kind: 'step'; readonly seed: number; readonly count: number }
  | { readonly kind: 'checkpoint' }
  | { readonly kind: 'rollback'; readonly to: number; readonly redo: boolean }
  /** Many rollbacks in a row; only the last is compared. */
  | { readonly kind: 'rollbacks'; readonly to: readonly number[] }
  /** `which` counts processes; -1 are all. Then a rollback. */
  | { readonly kind: 'kill'; readonly which: number; readonly to: number }
  | { readonly kind: 'fork'; readonly from: number }

export interface ProcessCounts {
  events: number
  operations: number
  refusedOperations: number
  checkpoints: number
  rollbacks: number
  kills: number
  forks: number
  comparisons: number
}

export interface ProcessOptions {
  readonly seed: number
  readonly events: number
  /** Repeats these instead of drawing. */
  readonly recorded?: readonly ProcessEvent[]
}

export class ProcessModelFailure extends Error {
  constructor(
    message: string,
    readonly events: readonly ProcessEvent[],
    cause: unknown,
  ) {
    super(message, { cause })
  }
}

interface Recorded {
  readonly id: string
  readonly state: State
  readonly look: string
}

/** Runs the model once in a sandbox and with a state directory of its own; both are kept when it fails. */
export async function runProcessModel(options: ProcessOptions): Promise<ProcessCounts> {
  const dir = mkdtempSync(join(PARENT, 'dbx-processes-'))
  const before = process.env['DELTABOX_STATE_DIR']
  process.env['DELTABOX_STATE_DIR'] = join(dir, 'state')
  mkdirSync(join(dir, 'state'))
  mkdirSync(join(dir, 'workspace'))
  writeFileSync(join(dir, 'workspace', 'program.py'), programSource)
  const done: ProcessEvent[] = []
  try {
    await using sandbox = await Sandbox.create({ workspace: join(dir, 'workspace') })
    const session = await Session.start(sandbox, ['python3', '/workspace/program.py', '/workspace/drawn'])
    await session.ask('look') // answered once it has started
    const run = new Run(sandbox, session)
    const random = new SeededRandom(options.seed)
    const total = options.recorded?.length ?? options.events
    try {
      for (let index = 0; index < total; index++) {
        const event = options.recorded?.[index] ?? run.draw(random)
        done.push(event)
        await run.carryOut(event)
      }
    } catch (error) {
      const file = join(dir, 'failure.json')
      writeFileSync(file, JSON.stringify({ seed: options.seed, events: done }))
      const text = error instanceof Error ? error.message : String(error)
      throw new ProcessModelFailure(`seed ${options.seed}, event ${done.length}: ${text}\nevents: ${file}`, done, error)
    }
    await sandbox.kill()
    await removeTree(dir)
    return run.counts
  } finally {
    if (before === undefined) delete process.env['DELTABOX_STATE_DIR']
    else process.env['DELTABOX_STATE_DIR'] = before
  }
}

class Run {
  readonly counts: ProcessCounts = {
    events: 0,
    operations: 0,
    refusedOperations: 0,
    checkpoints: 0,
    rollbacks: 0,
    kills: 0,
    forks: 0,
    comparisons: 0,
  }
  readonly #recorded: Recorded[] = []

  constructor(
    readonly sandbox: Sandbox,
    private session: Session,
  ) {}

  draw(random: SeededRandom): ProcessEvent {
    const known = this.#recorded.length
    const some = () => Math.max(0, known - KEPT_CHECKPOINTS) + random.below(Math.min(known, KEPT_CHECKPOINTS))
    const lot = random.below(100)
    if (known === 0 && lot >= 50) return { kind: 'checkpoint' }
    if (known === 0 || lot < 40) return { kind: 'step', seed: random.below(2 ** 30), count: 1 + random.below(25) }
    if (lot < 58) return { kind: 'checkpoint' }
    if (lot < 80) return { kind: 'rollback', to: some(), redo: random.chance(50) }
    if (lot < 86) return { kind: 'rollbacks', to: Array.from({ length: 12 }, some) }
    if (lot < 94) return { kind: 'kill', which: random.chance(40) ? -1 : random.below(20), to: some() }
    return { kind: 'fork', from: some() }
  }

  async carryOut(event: ProcessEvent): Promise<void> {
    this.counts.events += 1
    switch (event.kind) {
      case 'step': {
        const answer = await this.session.ask(`step ${event.seed} ${event.count}`)
        const counts = /^(\d+) (\d+)$/.exec(answer)
        if (counts === null) throw new Error(`an answer to step: ${answer}`)
        this.counts.operations += Number(counts[1])
        this.counts.refusedOperations += Number(counts[2])
        return
      }
      case 'checkpoint':
        return this.#checkpoint()
      case 'rollback':
        return this.#rollBack(event.to, event.redo)
      case 'rollbacks':
        for (const to of event.to.slice(0, -1)) await this.#return(to, false)
        return this.#rollBack(event.to.at(-1) ?? 0, true)
      case 'kill':
        return this.#kill(event.which, event.to)
      case 'fork':
        return this.#fork(event.from)
    }
  }

  async #checkpoint(): Promise<void> {
    // The engine has to be the first to interrupt a timed call (docs/limits.md), and not the reader.
    await this.sandbox.deleteCheckpoint(await this.sandbox.checkpoint({ strict: true }))
    const state = await readQuiet(this.sandbox)
    const { id } = await this.sandbox.checkpoint({ strict: true })
    this.counts.checkpoints += 1
    await this.#compare(state, this.sandbox, 'after the checkpoint')
    this.#recorded.push({ id, state, look: await this.session.ask('look') })
  }

  async #return(to: number, redo: boolean): Promise<void> {
    const { notRestored } = await this.sandbox.rollback(this.#at(to).id, { redo })
    this.counts.rollbacks += 1
    if (notRestored.length > 0) throw new Error(`rollback to ${to}: not restored: ${JSON.stringify(notRestored)}`)
  }

  async #rollBack(to: number, redo: boolean): Promise<void> {
    await this.#return(to, redo)
    await this.#compare(this.#at(to).state, this.sandbox, `after the rollback to ${to}`)
    await this.#compareLook(to, this.session)
  }

  async #kill(which: number, to: number): Promise<void> {
    const pids = await processesOf(this.sandbox)
    const pid = pids[which % Math.max(1, pids.length)]
    if (which < 0 || pid === undefined) await killAll(this.sandbox)
    else await killOne(this.sandbox, pid)
    this.counts.kills += 1
    await this.#return(to, false)
    // A client's handle of a command that had ended stays ended.
    this.session = await this.session.in(this.sandbox)
    await this.#compare(this.#at(to).state, this.sandbox, `after a kill of ${pid ?? 'all'} and a rollback to ${to}`)
    await this.#compareLook(to, this.session)
  }

  async #fork(from: number): Promise<void> {
    const { sandboxes } = await this.sandbox.fork({ from: this.#at(from).id })
    await using fork = sandboxes[0]
    if (fork === undefined) throw new Error(`fork of ${from}`)
    this.counts.forks += 1
    await this.#compare(this.#at(from).state, fork, `in a fork of ${from}`)
    await this.#compareLook(from, await this.session.in(fork))
    await fork.kill()
  }

  async #compare(wanted: State, sandbox: Sandbox, when: string): Promise<void> {
    this.counts.comparisons += 1
    let found: string[] = []
    // Tasks that were just thawed get a moment to block again.
    for (let reading = 0; reading < READINGS; reading++) {
      found = differences(comparable(wanted), comparable(await read(sandbox)))
      if (found.length === 0) return
    }
    throw new Error(`${when}, ${found.length} differences:\n  ${found.slice(0, MAX_SHOWN).join('\n  ')}`)
  }

  async #compareLook(checkpoint: number, session: Session): Promise<void> {
    const [wanted, found] = [this.#at(checkpoint).look, await session.ask('look')]
    if (wanted === found) return
    const at = [...wanted].findIndex((character, index) => character !== found[index])
    const around = (text: string) => text.slice(Math.max(0, at - SHOWN_BEFORE), at + SHOWN_AFTER)
    throw new Error(`what the program sees at ${checkpoint}: … ${around(wanted)} … → … ${around(found)} …`)
  }

  #at(index: number): Recorded {
    const recorded = this.#recorded[index]
    if (recorded === undefined) throw new Error(`no checkpoint ${index}`)
    return recorded
  }
}

/**
 * But for when processes began (what was killed in between, by us or by the program, was made again later) and the
 * times of directories that every sandbox makes for itself, forks too.
 */
function comparable(state: State): object {
  const processes = Object.entries(state.processes).map(([pid, process]) => [pid, { ...process, startTime: '' }])
  const files = Object.entries(state.files).map(([path, file]) => [
    path,
    path.startsWith('/workspace/') ? file : { ...file, mtime: '' },
  ])
  return { ...state, processes: Object.fromEntries(processes) as object, files: Object.fromEntries(files) as object }
}

const read = (sandbox: Sandbox) => readState(sandbox, '/workspace', '/tmp')

/** The state once two readings agree. */
async function readQuiet(sandbox: Sandbox): Promise<State> {
  let last = await read(sandbox)
  let found: string[] = []
  for (let reading = 0; reading < READINGS; reading++) {
    const next = await read(sandbox)
    found = differences(last, next)
    if (found.length === 0) return next
    last = next
  }
  throw new Error(`the sandbox does not stand still:\n  ${found.slice(0, MAX_SHOWN).join('\n  ')}`)
}

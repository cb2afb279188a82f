// One sandbox, operations drawn from a seed, and an engine that dies in the middle of them, several times over. After
// each death the files are those of the last answered call, or of the one in flight; every checkpoint that was answered
// for is there and restores exactly.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DeltaboxError, Sandbox } from '../../src/index.js'
import { SeededRandom } from '../model/random.js'
import { isOwnEngine, until, type TestState } from '../support/state.js'
import { FAULT_POINTS, POINTS_OF_IMAGES, withFault } from './fault-points.js'
import { leftovers } from './records.js'

/** Path to contents, of all volumes that are written. */
type Files = ReadonlyMap<string, string>

export interface CrashOptions {
  readonly seed: number
  readonly state: TestState
  /** Where the first engine has to die; else drawn. */
  readonly fault?: string
  /** @default drawn, 1 to 3 */
  readonly crashes?: number
}

export interface CrashCounts {
  deaths: number
  operations: number
  checkpoints: number
  restored: number
}

const MOST_ATTEMPTS = 5
const OPERATIONS_PER_LIFE = 24
const RESTORED_PER_DEATH = 3
const LONGEST_DELAY_MS = 400
/** A merged layer is named with the next switch of its volume, and each engine begins with a layer more in all. */
const VOLUMES = 10
/** Of each engine, empty ones among them, until the next one starts or the sandbox ends. */
const MOST_UNUSED_LAYERS = 2
/** Layers are removed in the background, one after the other; a loaded machine takes its time. */
const CLEANING_MS = 60_000

/** Prints all regular files of both volumes. */
const LIST = `
import json, os
found = {}
for top in ('/workspace', '/tmp'):
    for parent, _, names in os.walk(top):
        for name in names:
            # What a write that the engine's death cut off has left; docs/limits.md says so.
            if name.startswith('.deltabox-write-'): continue
            path = os.path.join(parent, name)
            with open(path) as file: found[path] = file.read()
print(json.dumps(found))`

async function filesOf(sandbox: Sandbox): Promise<Files> {
  const { stdout } = await sandbox.commands.run(['python3', '-c', LIST])
  return new Map(Object.entries(JSON.parse(stdout) as Record<string, string>))
}

const text = (files: Files) => JSON.stringify([...files].sort(([a], [b]) => (a < b ? -1 : 1)))

const isLost = (error: unknown) => error instanceof DeltaboxError && error.code === 'ENGINE_LOST'

export class CrashEpisode {
  readonly counts: CrashCounts = { deaths: 0, operations: 0, checkpoints: 0, restored: 0 }
  readonly #random: SeededRandom
  readonly #saved = new Map<string, Files>()
  #sandbox!: Sandbox
  #files: Files = new Map()
  /** What the files are if the call in flight was carried out. */
  #next: Files = new Map()
  #inFlight = ''
  #deleting: string | undefined
  /** Since the last engine that answered. */
  #recoveryDeaths = 0
  #holder: number | undefined
  #log: string[] = []
  readonly #durability: 'files' | 'processes'

  constructor(private readonly options: CrashOptions) {
    this.#random = new SeededRandom(options.seed)
    const needsImages = POINTS_OF_IMAGES.some((point) => options.fault?.startsWith(point))
    this.#durability = needsImages || this.#random.chance(30) ? 'processes' : 'files'
  }

  async run(): Promise<CrashCounts> {
    try {
      await this.#run()
      return this.counts
    } catch (error) {
      const { seed, fault = '' } = this.options
      const told = error instanceof Error ? (error.stack ?? error.message) : String(error)
      throw new Error(`seed ${seed} ${fault}\n${this.#log.slice(-40).join('\n')}\n${told}`, { cause: error })
    }
  }

  async #run(): Promise<void> {
    const { state, fault, crashes = 1 + this.#random.below(3) } = this.options
    const first = fault ?? this.#drawFault()
    this.#note(`create ${first}`)
    try {
      this.#sandbox = await withFault(first, () =>
        Sandbox.create({ workspace: state.workspace, durability: this.#durability }),
      )
    } catch (error) {
      if (!isLost(error) || fault !== undefined) throw error
      this.counts.deaths++
      return
    }
    this.#files = new Map([
      ['/workspace/README.md', '# a project\n'],
      ['/workspace/src/main.txt', 'original\n'],
    ])
    await this.#startHolder().catch(this.#swallowLoss)
    for (let life = 0; life < crashes; life++) {
      await this.#live(life === 0 ? first : undefined)
      await this.#comeBack()
      await this.#verify()
    }
    await this.#end()
  }

  #note(line: string): void {
    this.#log.push(line)
  }

  readonly #swallowLoss = (error: unknown): void => {
    if (!isLost(error)) throw error
  }

  #drawFault(): string | undefined {
    if (!this.#random.chance(70)) return undefined
    return `${this.#random.pick(FAULT_POINTS)}:${this.#random.below(6)}`
  }

  /** Keeps a file with two names open for writing, so that an inode goes over at each checkpoint. */
  async #startHolder(): Promise<void> {
    const script = 'exec 3>>held; ln held linked; echo start >&3; while read line; do echo $line >&3; done'
    this.#inFlight = 'holder'
    this.#next = new Map([...this.#files, ['/workspace/held', 'start\n'], ['/workspace/linked', 'start\n']])
    const command = await this.#sandbox.commands.run(script, { background: true, stdin: true })
    this.#holder = command.commandId
    await until(
      'the holder',
      async () => (await this.#sandbox.files.read('held').catch(this.#unlessLost)) === 'start\n',
    )
    this.#files = this.#next
  }

  readonly #unlessLost = (error: unknown): string => {
    if (isLost(error)) throw error
    return ''
  }

  /** Operations until the engine is dead. */
  async #live(fault: string | undefined): Promise<void> {
    const { enginePid } = await this.#sandbox.getInfo().catch((error: unknown) => {
      this.#swallowLoss(error)
      return { enginePid: 0 }
    })
    if (enginePid === 0) return
    const kill = () => {
      try {
        process.kill(enginePid, 'SIGKILL')
      } catch {
        // It came to its fault point before.
      }
    }
    const timer = fault === undefined ? setTimeout(kill, this.#random.below(LONGEST_DELAY_MS)) : undefined
    try {
      // Points that this life never passes: the test of every point asks for them, and how often layers are merged in
      // the background depends on how fast they are made.
      const asked = this.options.fault !== undefined && fault !== undefined
      for (let attempt = 0; attempt < (asked ? MOST_ATTEMPTS : 1); attempt++) {
        const most = asked || fault === undefined ? 5 * OPERATIONS_PER_LIFE : OPERATIONS_PER_LIFE
        for (let n = 0; n < most; n++) {
          await this.#operate()
          this.counts.operations++
        }
        if (asked) await new Promise((resolve) => setTimeout(resolve, 500))
      }
      if (asked && (await this.#sandbox.isRunning())) throw new Error(`never came to ${fault}`)
    } catch (error) {
      this.#swallowLoss(error)
    } finally {
      clearTimeout(timer)
      kill()
    }
  }

  async #operate(): Promise<void> {
    const kind = this.#random.below(100)
    if (kind < 30) await this.#checkpoint()
    else if (kind < 42 && this.#saved.size > 0) await this.#rollback()
    else if (kind < 52 && this.#saved.size > 3) await this.#delete()
    else await this.#change()
    this.#files = this.#next
    this.#deleting = undefined
  }

  #begin(what: string, next: Files = this.#files): void {
    this.#inFlight = what
    this.#next = next
    this.#note(what)
  }

  async #checkpoint(): Promise<void> {
    this.#begin('checkpoint')
    const { id } = await this.#sandbox.checkpoint()
    this.#note(`  = ${id}`)
    this.#saved.set(id, this.#files)
    this.counts.checkpoints++
  }

  async #rollback(): Promise<void> {
    const target = this.#random.pick([...this.#saved.keys()])
    const redo = this.#random.chance(50)
    this.#begin(`rollback ${target} redo ${redo}`, this.#saved.get(target))
    const { safetyCheckpoint } = await this.#sandbox.rollback(target, { redo })
    if (safetyCheckpoint !== null) this.#saved.set(safetyCheckpoint, this.#files)
  }

  async #delete(): Promise<void> {
    const target = this.#random.pick([...this.#saved.keys()])
    this.#begin(`delete ${target}`)
    this.#deleting = target
    await this.#sandbox.deleteCheckpoint(target)
    this.#saved.delete(target)
  }

  async #change(): Promise<void> {
    const next = new Map(this.#files)
    const own = [...next.keys()].filter((path) => !/held|linked/.test(path))
    const n = String(this.#random.below(1e6))
    const dir = this.#random.pick(['/workspace', '/workspace/src', '/tmp'])
    const path = `${dir}/f${this.#random.below(6)}`
    const kind = this.#random.below(5)
    if (kind === 0 && own.length > 1) {
      const gone = this.#random.pick(own)
      next.delete(gone)
      this.#begin(`remove ${gone}`, next)
      await this.#sandbox.files.remove(gone)
    } else if (kind === 1 && own.length > 0) {
      const from = this.#random.pick(own)
      if (from === path || from.startsWith('/tmp') !== path.startsWith('/tmp')) return this.#begin('nothing')
      next.set(path, next.get(from)!)
      next.delete(from)
      this.#begin(`rename ${from} ${path}`, next)
      await this.#sandbox.files.rename(from, path)
    } else if (kind === 2 && this.#holder !== undefined && next.has('/workspace/held')) {
      const longer = `${next.get('/workspace/held')!}${n}\n`
      for (const name of ['held', 'linked']) next.set(`/workspace/${name}`, longer)
      this.#begin(`held ${n}`, next)
      await this.#sandbox.commands.sendStdin(this.#holder, `${n}\n`)
      await until('held', async () => (await this.#sandbox.files.read('held').catch(this.#unlessLost)) === longer)
    } else {
      next.set(path, n)
      this.#begin(`write ${path} ${n}`, next)
      await this.#sandbox.files.write(path, n)
    }
  }

  async #comeBack(): Promise<void> {
    const { id } = this.#sandbox
    await until('the end', async () => !(await this.#sandbox.isRunning()))
    this.#sandbox.disconnect()
    this.#holder = undefined
    this.counts.deaths++
    this.#recoveryDeaths = 0
    // An engine may die while it recovers, too.
    for (let again = this.#random.chance(30); again; again = false) {
      const fault = `${this.#random.pick(FAULT_POINTS)}:${this.#random.below(2)}`
      this.#note(`recovery dies at ${fault}`)
      try {
        const half = await withFault(fault, () => Sandbox.connect(id))
        const { enginePid } = await half.getInfo()
        process.kill(enginePid, 'SIGKILL')
        await until('the end', async () => !(await half.isRunning()))
        half.disconnect()
      } catch (error) {
        if (!(error instanceof DeltaboxError)) throw error
        this.#note(`  ${error.code} ${error.message}`)
      }
      this.#recoveryDeaths++
      this.counts.deaths++
    }
    this.#note('connect')
    this.#sandbox = await Sandbox.connect(id)
    await this.#takeLastFiles()
  }

  /** With durable processes an engine begins with the head, after it has kept the files as they were last. */
  async #takeLastFiles(): Promise<void> {
    const { warnings } = await this.#sandbox.getInfo()
    if (!warnings.some((warning) => warning.includes('files and processes are those of'))) return
    const { checkpoints } = await this.#sandbox.listCheckpoints()
    // An engine that died while it recovered has kept them first, one that came after it what it had begun with.
    const unknown = checkpoints.map(({ id }) => id).filter((id) => !this.#saved.has(id))
    await this.#sandbox.rollback(unknown[0]!, { redo: false })
    for (const id of unknown) await this.#sandbox.deleteCheckpoint(id)
  }

  async #verify(): Promise<void> {
    const found = await filesOf(this.#sandbox)
    const allowed = [this.#files, this.#next].map(text)
    if (!allowed.includes(text(found))) {
      throw new Error(`after ${this.#inFlight} the files are\n${text(found)}\nand not\n${allowed.join('\nor\n')}`)
    }
    const before = this.#files
    this.#files = this.#next = found
    const { checkpoints } = await this.#sandbox.listCheckpoints()
    const there = new Set(checkpoints.map(({ id }) => id))
    if (this.#deleting !== undefined && !there.has(this.#deleting)) this.#saved.delete(this.#deleting)
    this.#deleting = undefined
    for (const id of this.#saved.keys()) if (!there.has(id)) throw new Error(`checkpoint ${id} is lost`)
    // One that was not answered for, of a checkpoint or for the safety of a rollback: it holds the state before. An engine
    // that died while it recovered can have left another, of the last files, before it told the state of it.
    const unknown = [...there].filter((id) => !this.#saved.has(id))
    if (unknown.length > 1 + this.#recoveryDeaths) throw new Error(`checkpoints of nobody: ${unknown.join()}`)
    for (const id of unknown) this.#saved.set(id, before)
    const { warnings } = await this.#sandbox.getInfo()
    const told = warnings.filter((warning) => /damaged|can't be used|not the last/.test(warning))
    if (told.length > 0) throw new Error(told.join('\n'))
    const ids = [
      ...unknown,
      ...Array.from({ length: RESTORED_PER_DEATH }, () => this.#random.pick([...this.#saved.keys(), ''])),
    ]
    for (const id of new Set(ids)) {
      const wanted = this.#saved.get(id)
      if (wanted === undefined) continue
      await this.#sandbox.rollback(id, { redo: false })
      const restored = await filesOf(this.#sandbox)
      const ofRecovery = this.#recoveryDeaths > 0 && unknown.includes(id) && text(restored) === text(found)
      if (ofRecovery) this.#saved.set(id, found)
      else if (text(restored) !== text(wanted)) {
        throw new Error(`checkpoint ${id} holds\n${text(restored)}\nand not\n${text(wanted)}`)
      }
      this.#files = this.#next = restored
      this.counts.restored++
    }
    const store = join(this.options.state.stateDir, 'sandboxes', this.#sandbox.id, 'store')
    let left: string[] = []
    const isClean = () => {
      left = leftovers(store)
      const most = VOLUMES + MOST_UNUSED_LAYERS * (1 + this.counts.deaths)
      return left.length <= most && left.every((name) => /^\d+$/.test(name))
    }
    await until('nothing is left', isClean, CLEANING_MS).catch(() => {
      throw new Error(`left in the store: ${left.join()} of ${readdirSync(join(store, 'layers')).length}`)
    })
  }

  async #end(): Promise<void> {
    const { stateDir } = this.options.state
    const { enginePid } = await this.#sandbox.getInfo()
    await this.#sandbox.kill()
    await until('the engine is gone', () => !isOwnEngine(enginePid))
    const left = readdirSync(join(stateDir, 'sandboxes'))
    if (left.includes(this.#sandbox.id)) throw new Error(`left in the state directory: ${left.join()}`)
    if (readFileSync('/proc/self/mountinfo', 'utf8').includes(stateDir)) throw new Error('a mount is left')
  }
}

import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Expectations } from './expectations.js'
import { LineProcess, type Call, type Outcome, type Snapshot } from './line-process.js'

const program = fileURLToPath(new URL('./guest/main.py', import.meta.url))

/** What led to a state: a batch of calls, or null for a seal; the newest first. */
export interface History {
  readonly step: readonly Call[] | null
  readonly before: History | undefined
}

/**
 * The plain copy: the same program on plain directories of the host, with the ids and capabilities that it has inside. It
 * draws the operations. It goes back in time by beginning anew.
 */
export class Replica {
  history: History | undefined
  private constructor(
    private readonly dir: string,
    private readonly ids: { ids: number; capabilities: string },
    private readonly switches: Expectations,
    private process: LineProcess,
  ) {}

  static async start(dir: string, greeting: unknown, switches: Expectations): Promise<Replica> {
    const ids = greeting as { ids: number; capabilities: string }
    const process = await launch(dir, ids, switches)
    return new Replica(dir, ids, switches, process)
  }

  async draw(seed: number, count: number): Promise<{ call: Call; outcome: Outcome }[]> {
    const drawn = (await this.process.ask({ kind: 'draw', seed, count })) as [Call, Outcome][]
    this.#remember(drawn.map(([call]) => call))
    return drawn.map(([call, outcome]) => ({ call, outcome }))
  }

  /** The same for calls that were drawn before. */
  async repeat(calls: readonly Call[]): Promise<{ call: Call; outcome: Outcome }[]> {
    const outcomes = (await this.process.ask({ kind: 'run', calls })) as Outcome[]
    this.#remember(calls)
    return outcomes.map((outcome, index) => ({ call: calls[index] as Call, outcome }))
  }

  async state(): Promise<Snapshot> {
    return (await this.process.ask({ kind: 'state', locks: this.switches.locks })) as Snapshot
  }

  async sealed(): Promise<void> {
    await this.process.ask({ kind: 'sealed' })
    this.#remember(null)
  }

  /** Becomes what it was after this history. */
  async returnTo(history: History | undefined): Promise<void> {
    if (history === this.history) return
    this.end()
    this.process = await launch(this.dir, this.ids, this.switches)
    const steps: (readonly Call[] | null)[] = []
    for (let at = history; at !== undefined; at = at.before) steps.unshift(at.step)
    await this.process.ask({ kind: 'replay', steps })
    this.history = history
  }

  end(): void {
    this.process.end()
  }

  #remember(step: readonly Call[] | null): void {
    this.history = { step, before: this.history }
  }
}

async function launch(
  dir: string,
  { ids, capabilities }: { ids: number; capabilities: string },
  switches: Expectations,
): Promise<LineProcess> {
  const place = mkdtempSync(join(dir, 'replica-'))
  const [process] = await LineProcess.onHost(['python3', program, '--replica', String(ids), capabilities, place])
  await process.ask({ kind: 'switches', switches })
  return process
}

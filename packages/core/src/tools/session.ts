import { DeltaboxError } from '../errors/deltabox-error.js'
import type { Sandbox } from '../sandbox/sandbox.js'
import { ToolSandbox } from './tool-sandbox.js'

/** The name of the sandbox that tools work in when a call names none. */
export const MAIN = 'main'
/** Forks of one agent at a time: each has an engine and memory of its own. */
export const MAX_FORKS = 16
/** A process that is killed can't end the forks that it made; long enough to attach another one to a fork. */
const ORPHAN_TIMEOUT_MS = 600_000

/** Where a session's sandbox comes from. */
export interface ToolSessionInit {
  /** Called at the first tool call that needs it, and again only if it failed. */
  readonly open: () => Promise<Sandbox>
  /** What `close()` does with the sandbox: end it, leave it running, or not touch it at all. */
  readonly atClose: 'kill' | 'disconnect' | 'keep'
}

/** Forks as an agent knows them. */
export interface NamedForks {
  /** The checkpoint that they begin from. */
  readonly checkpoint: string
  readonly sandboxes: readonly { readonly name: string; readonly id: string }[]
  /** Why others could not be made. */
  readonly failures: readonly unknown[]
}

/**
 * One agent's sandboxes: `main`, and the forks that it makes of any of them, `fork-1` and so on. Forks end with the
 * session, but for one that took the place of a main sandbox that is not the session's to end.
 */
export class ToolSession {
  readonly #init: ToolSessionInit
  /** The one that `open` makes. */
  readonly #first: ToolSandbox
  #main: ToolSandbox
  /** By name. One that became main keeps the name that the agent knows it by. */
  #forks = new Map<string, ToolSandbox>()
  /** Forks that are being made. */
  #making = 0
  #lastNumber = 0
  #isClosed = false

  constructor(init: ToolSessionInit) {
    this.#init = init
    this.#first = new ToolSandbox(init.open)
    this.#main = this.#first
  }

  /** A sandbox by its name, or main. @throws SANDBOX_NOT_FOUND */
  at(name = MAIN): ToolSandbox {
    const found = name === MAIN ? this.#main : this.#forks.get(name)
    if (found !== undefined) return found
    throw new DeltaboxError('SANDBOX_NOT_FOUND', {
      message: `there is no sandbox ${name}`,
      nextStep: `use one of: ${[MAIN, ...this.#forks.keys()].join(', ')}`,
    })
  }

  /**
   * Forks one of the sandboxes.
   * @param from a checkpoint of it. Default: a new one
   * @throws INVALID_ARGUMENT beyond {@link MAX_FORKS}; what `Sandbox.fork` throws
   */
  async fork(
    name: string,
    { from, count, signal }: { from?: string | undefined; count: number; signal?: AbortSignal | undefined },
  ): Promise<NamedForks> {
    const lender = await this.at(name).sandbox()
    const present = this.#making + this.#others(this.#main).length
    if (present + count > MAX_FORKS) {
      throw new DeltaboxError('INVALID_ARGUMENT', {
        message: `${count} more forks beside ${present}; ${MAX_FORKS} are possible at a time`,
        nextStep: 'end some with end_fork, or make fewer',
      })
    }
    this.#making += count
    try {
      const { checkpoint, sandboxes, failures } = await lender.fork({
        count,
        orphanTimeoutMs: ORPHAN_TIMEOUT_MS,
        ...(from === undefined ? {} : { from }),
        ...(signal === undefined ? {} : { signal }),
      })
      if (this.#isClosed) {
        await Promise.all(sandboxes.map((sandbox) => sandbox.kill()))
        throw new DeltaboxError('ABORTED', { message: 'the session was closed', nextStep: 'open a new one' })
      }
      return { checkpoint, sandboxes: sandboxes.map((sandbox) => this.#add(sandbox)), failures }
    } finally {
      this.#making -= count
    }
  }

  /** Ends a fork. @throws SANDBOX_NOT_FOUND; INVALID_ARGUMENT for main */
  async endFork(name: string): Promise<void> {
    const fork = this.at(name)
    if (fork === this.#main) {
      throw new DeltaboxError('INVALID_ARGUMENT', {
        message: name === MAIN ? `${MAIN} is no fork` : `${name} is ${MAIN} now`,
        nextStep: 'go on in another sandbox with keep_only, which ends this one',
      })
    }
    this.#forks.delete(name)
    await (await fork.sandbox()).kill()
  }

  /**
   * Makes a sandbox main and ends all others, but a first one that is not the session's to end.
   * @returns the names of those that were ended
   * @throws SANDBOX_NOT_FOUND
   */
  async keepOnly(name: string): Promise<readonly string[]> {
    const kept = this.at(name)
    const ended = this.#others(kept)
    if (this.#main !== kept && (this.#main !== this.#first || this.#init.atClose === 'kill')) {
      ended.push([MAIN, this.#main])
    }
    this.#main = kept
    this.#forks = new Map([...this.#forks].filter(([, fork]) => fork === kept))
    await endAll(ended)
    return ended.map(([endedName]) => endedName)
  }

  /** Ends the session. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true
    const { atClose } = this.#init
    const forks = this.#others(this.#main)
    this.#forks.clear()
    await endAll(forks)
    if (atClose === 'kill') await (await this.#main.opened())?.kill()
    if (atClose !== 'disconnect') return
    for (const held of new Set([this.#main, this.#first])) (await held.opened())?.disconnect()
  }

  /** The forks but one and main. */
  #others(kept: ToolSandbox): [string, ToolSandbox][] {
    return [...this.#forks].filter(([, fork]) => fork !== kept && fork !== this.#main)
  }

  #add(sandbox: Sandbox): { name: string; id: string } {
    const name = `fork-${++this.#lastNumber}`
    this.#forks.set(name, new ToolSandbox(sandbox))
    return { name, id: sandbox.id }
  }
}

async function endAll(sandboxes: readonly [string, ToolSandbox][]): Promise<void> {
  await Promise.all(sandboxes.map(async ([, held]) => (await held.opened())?.kill()))
}

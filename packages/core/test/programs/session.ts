import { expect } from 'vitest'
import type { CommandHandle, Sandbox } from '../../src/index.js'
import { killAll, killOne, processesOf } from '../support/processes.js'
import { until } from '../support/state.js'

const ROUNDS = 10
const ANSWER_MS = 30_000

/** A program that answers lines with lines that end in a mark. */
export class Session {
  private constructor(
    private readonly sandbox: Sandbox,
    private readonly command: CommandHandle,
  ) {}

  static async start(sandbox: Sandbox, argv: string[]): Promise<Session> {
    return new Session(sandbox, await sandbox.commands.run(argv, { background: true }))
  }

  /** The same as it lives on in a fork, or after its command was made again. */
  async in(sandbox: Sandbox): Promise<Session> {
    const command = await sandbox.commands.connect(this.command.commandId)
    // A fork has what was printed in it.
    const before = sandbox === this.sandbox ? this.command.stdout.length : 0
    await until('the output so far', () => command.stdout.length >= before)
    return new Session(sandbox, command)
  }

  /** Sends lines, and returns what came before the next line that is only `mark`. */
  async ask(lines: string, mark = '<end>'): Promise<string> {
    const from = this.command.stdout.length
    await this.command.sendStdin(`${lines}\n`)
    const answer = () => this.command.stdout.slice(from)
    const isAnswered = () => `\n${answer()}`.includes(`\n${mark}\n`)
    await until(`an answer to ${lines}`, () => isAnswered() || !this.command.isRunning, ANSWER_MS).catch(
      () => undefined,
    )
    if (!isAnswered()) {
      const end = this.command.isRunning ? 'it runs' : JSON.stringify(await this.command.wait())
      throw new Error(`no answer to ${lines}: ${answer()} ${this.command.stderr} (${end})`)
    }
    return `\n${answer()}`.split(`\n${mark}\n`)[0]!.trim()
  }
}

/**
 * Ten times: `change`, a rollback, and `look` shows what it showed before.
 * @param survivors pids (inside) that have to live through all of it
 */
export async function expectTenReturns(
  sandbox: Sandbox,
  { look, change, survivors }: { look: () => Promise<string>; change: () => Promise<unknown>; survivors: number[] },
): Promise<void> {
  const before = await look()
  const started = await startTimes(sandbox, survivors)
  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect(checkpoint.warnings).toEqual([])
  for (let round = 1; round <= ROUNDS; round++) {
    await change()
    expect(await look(), `round ${round}: the change`).not.toBe(before)
    const { notRestored } = await sandbox.rollback(checkpoint, { redo: round % 2 === 0 })
    expect(notRestored, `round ${round}`).toEqual([])
    expect(await look(), `round ${round}`).toBe(before)
  }
  expect(await startTimes(sandbox, survivors)).toEqual(started)
}

/**
 * Each of its processes is killed and made again, one at a time and all at once; then it lives on in a fork.
 * @param look tells what the program in a sandbox shows
 */
export async function expectLifeAfterDeath(sandbox: Sandbox, look: (where: Sandbox) => Promise<string>): Promise<void> {
  const before = await look(sandbox)
  const checkpoint = await sandbox.checkpoint({ strict: true })
  for (const pid of await processesOf(sandbox)) {
    await killOne(sandbox, pid)
    await sandbox.rollback(checkpoint, { strict: true })
    expect(await look(sandbox), `pid ${pid} made again`).toBe(before)
    await sandbox.rollback(checkpoint, { strict: true })
  }
  await killAll(sandbox)
  await sandbox.rollback(checkpoint, { strict: true })
  expect(await look(sandbox), 'made again').toBe(before)
  const { sandboxes, failures } = await sandbox.fork({ from: checkpoint })
  expect(failures).toEqual([])
  for (const fork of sandboxes) {
    expect((await fork.getInfo()).warnings).toEqual([])
    expect(await look(fork), 'in a fork').toBe(before)
    await fork.kill()
  }
}

async function startTimes(sandbox: Sandbox, pids: number[]): Promise<string[]> {
  const stats = await Promise.all(pids.map((pid) => sandbox.files.read(`/proc/${pid}/stat`)))
  return stats.map((stat) => stat.slice(stat.lastIndexOf(')')).split(' ')[20]!)
}

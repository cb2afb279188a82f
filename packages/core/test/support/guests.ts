// Small programs that verify one claim each from inside (guests/README.md), and how tests drive them.
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { Sandbox, type CommandHandle } from '../../src/index.js'
import { until } from './state.js'

const ANSWER_MS = 40_000

const guestsDir = fileURLToPath(new URL('../guests/', import.meta.url))
const files = readdirSync(guestsDir).filter((name) => name.endsWith('.py'))

/** Those that the flavours run; the others have tests of their own. GUEST=name chooses one. */
export const guests = files
  .map((name) => name.replace('.py', ''))
  .filter((name) => !['guest', 'sleep', 'unsupported'].includes(name))
  .filter((name) => process.env['GUEST'] === undefined || name === process.env['GUEST'])

export class Guest {
  private constructor(
    readonly name: string,
    public command: CommandHandle,
  ) {}

  static async start(sandbox: Sandbox, name: string, args: string[] = []): Promise<Guest> {
    const argv = ['python3', '-u', `/root/guests/${name}.py`, ...args]
    const command = await sandbox.commands.run(argv, { background: true })
    const guest = new Guest(name, command)
    await guest.#until('READY', 0)
    return guest
  }

  /** The same guest as it lives on in a fork. */
  async in(fork: Sandbox): Promise<Guest> {
    return new Guest(this.name, await fork.commands.connect(this.command.commandId))
  }

  /** After a rollback that made it anew: its command goes on, without those who were told of its end. */
  async reconnect(sandbox: Sandbox): Promise<void> {
    const seen = this.command.stdout.length
    this.command = await sandbox.commands.connect(this.command.commandId)
    await until('the output so far', () => this.command.stdout.length >= seen)
  }

  async change(): Promise<void> {
    const from = this.command.stdout.length
    await this.command.sendStdin('change\n')
    expect(await this.#until('(CHANGED|not ok: .*)\n', from), this.name).toBe('CHANGED\n')
  }

  /** "ok", or why not. */
  async verdict(): Promise<string> {
    const from = this.command.stdout.length
    await this.command.sendStdin('verify\n')
    return (await this.#until('(ok|not ok: .*)\n', from)).trim()
  }

  async #until(pattern: string, from: number): Promise<string> {
    const find = () => new RegExp(pattern).exec(this.command.stdout.slice(from))?.[0]
    try {
      await until('an answer', () => find() !== undefined || !this.command.isRunning, ANSWER_MS)
    } catch {
      return 'no answer'
    }
    return find() ?? `ended: ${this.command.stderr.slice(-500)}`
  }
}

/** A sandbox that has their programs. */
export async function createWithGuests(workspace: string): Promise<Sandbox> {
  const sandbox = await Sandbox.create({ workspace })
  for (const name of files) {
    await sandbox.files.write(`/root/guests/${name}`, readFileSync(`${guestsDir}${name}`, 'utf8'))
  }
  return sandbox
}

export const startAll = (sandbox: Sandbox, names: string[]) =>
  Promise.all(names.map((name) => Guest.start(sandbox, name)))
export const changeAll = (all: Guest[]) => Promise.all(all.map((guest) => guest.change()))

/** The guests whose verdict is not ok, with the verdict. */
export async function failures(all: Guest[]): Promise<string[]> {
  const verdicts = await Promise.all(all.map(async (guest) => `${guest.name}: ${await guest.verdict()}`))
  return verdicts.filter((line) => !line.endsWith(': ok'))
}

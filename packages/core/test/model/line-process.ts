import { spawn } from 'node:child_process'
import { inflateSync } from 'node:zlib'
import type { CommandHandle, Sandbox } from '../../src/index.js'

const ANSWER_MS = 60_000

/** What one executor (guest/main.py) sees: see guest/snapshot.py. */
export type Snapshot = Readonly<Record<string, unknown>>

/** One operation, by its name and arguments: see guest/operations.py. */
export type Call = readonly [string, ...unknown[]]

export type Outcome = { readonly value: unknown } | { readonly error: string }

/** A started executor: how to write to it, and how to end it. */
interface Pipes {
  write(line: string): Promise<void> | void
  end(): void
}

/** Requests and answers of one executor, strictly in turn. */
export class LineProcess {
  #received = ''
  #diagnostics = ''
  #ended = false
  #wake = () => {}

  private constructor(private readonly pipes: Pipes) {}

  /** Runs it inside a sandbox; the first answer is its greeting. */
  static async inSandbox(sandbox: Sandbox, argv: readonly string[]): Promise<[LineProcess, unknown]> {
    // Output may arrive before there is a handle to write to.
    const started: { command?: CommandHandle } = {}
    const self = new LineProcess({ write: (line) => started.command?.sendStdin(line), end: () => undefined })
    started.command = await sandbox.commands.run(argv, {
      background: true,
      maxOutputBytes: 0,
      onStdout: (text) => self.#receive(text),
      onStderr: (text) => self.#note(text),
    })
    const end = () => self.#end()
    started.command.wait().then(end, end)
    return [self, await self.#answer()]
  }

  static async onHost(argv: readonly [string, ...string[]]): Promise<[LineProcess, unknown]> {
    const child = spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] })
    const self = new LineProcess({
      write: (line) => void child.stdin.write(line),
      end: () => {
        child.kill('SIGKILL')
      },
    })
    child.stdout.setEncoding('utf8').on('data', (text: string) => self.#receive(text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => self.#note(text))
    child.once('close', () => self.#end())
    child.stdin.once('error', () => self.#end())
    return [self, await self.#answer()]
  }

  async ask(request: object): Promise<unknown> {
    await this.pipes.write(`${JSON.stringify(request)}\n`)
    return this.#answer()
  }

  end(): void {
    this.pipes.end()
  }

  async #answer(): Promise<unknown> {
    const endMs = performance.now() + ANSWER_MS
    for (;;) {
      const newline = this.#received.indexOf('\n')
      if (newline >= 0) {
        const line = this.#received.slice(0, newline)
        this.#received = this.#received.slice(newline + 1)
        return JSON.parse(inflateSync(Buffer.from(line, 'base64')).toString('utf8'))
      }
      const leftMs = endMs - performance.now()
      if (this.#ended || leftMs <= 0) {
        throw new Error(`${this.#ended ? 'the executor ended' : 'no answer'}: ${this.#diagnostics.slice(-2000)}`)
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  #receive(text: string): void {
    this.#received += text
    this.#wake()
  }

  #note(text: string): void {
    this.#diagnostics += text
  }

  #end(): void {
    this.#ended = true
    this.#wake()
  }
}

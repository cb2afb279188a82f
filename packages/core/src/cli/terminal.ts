import { DeltaboxError } from '../errors/deltabox-error.js'
import type { PtySize } from '../pty/options.js'

/** The terminal that this program runs on, in raw mode: what is typed goes to the sandbox byte by byte. */
export class OwnTerminal {
  #isRaw = false
  readonly #restoreAtExit = (): void => this.restore()

  /** @throws INVALID_ARGUMENT when stdin or stdout is no terminal */
  constructor() {
    if (process.stdin.isTTY && process.stdout.isTTY) return
    throw new DeltaboxError('INVALID_ARGUMENT', {
      message: 'stdin and stdout must be a terminal',
      nextStep: 'run it from a terminal, or use `deltabox exec <id> --stdin -- bash` in scripts',
    })
  }

  get size(): PtySize {
    // A terminal that does not know its size says 0.
    return { cols: process.stdout.columns || 80, rows: process.stdout.rows || 24 }
  }

  /** What programs inside should take the terminal for. */
  get variables(): Record<string, string> {
    const { TERM = 'xterm-256color', COLORTERM } = process.env
    return { TERM, ...(COLORTERM === undefined ? {} : { COLORTERM }) }
  }

  /** Raw mode until `restore()`, or until this program ends, however it ends by itself. */
  enterRaw(onInput: (data: Uint8Array) => void, onResize: (size: PtySize) => void): void {
    process.once('exit', this.#restoreAtExit)
    process.stdin.setRawMode(true)
    this.#isRaw = true
    process.stdin.on('data', onInput)
    process.stdin.resume()
    process.stdout.on('resize', () => onResize(this.size))
  }

  /** Idempotent. */
  restore(): void {
    if (!this.#isRaw) return
    this.#isRaw = false
    process.off('exit', this.#restoreAtExit)
    process.stdout.removeAllListeners('resize')
    process.stdin.removeAllListeners('data')
    process.stdin.setRawMode(false)
    process.stdin.pause()
  }
}

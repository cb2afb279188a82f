import type { PtyHandle, PtyOptions, Sandbox } from '../../src/index.js'
import { until } from './state.js'

/** A terminal as somebody at it has it: types, and looks at what comes. */
export class Screen {
  private constructor(
    readonly shell: PtyHandle,
    private readonly heard: { text: string },
  ) {}

  static open(sandbox: Sandbox, options: PtyOptions = {}): Promise<Screen> {
    return Screen.#of((onData) => sandbox.pty.create({ ...options, onData }))
  }

  /** One that runs already; also what became of it in a fork. */
  static connect(sandbox: Sandbox, pid: number): Promise<Screen> {
    return Screen.#of((onData) => sandbox.pty.connect(pid, { onData }))
  }

  static async #of(open: (onData: (data: Uint8Array) => void) => Promise<PtyHandle>): Promise<Screen> {
    const heard = { text: '' }
    return new Screen(await open((data) => (heard.text += Buffer.from(data).toString())), heard)
  }

  /** Types, and waits for what the answer must hold. */
  readonly ask = async (input: string, answer: RegExp, timeoutMs?: number): Promise<void> => {
    this.heard.text = ''
    await this.shell.sendInput(input)
    const what = () => `${String(answer)} after ${JSON.stringify(input)} in ${JSON.stringify(this.heard.text)}`
    await until(what, () => answer.test(this.heard.text), timeoutMs)
  }
}

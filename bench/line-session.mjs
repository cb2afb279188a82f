const ANSWER_TIMEOUT_MS = 60_000

/** A background command that answers lines with lines. */
export class LineSession {
  #handle
  #received = ''
  #wake = () => {}

  static async start(sandbox, argv) {
    const session = new LineSession()
    session.#handle = await sandbox.commands.run(argv, {
      background: true,
      maxOutputBytes: 0,
      onStdout: (text) => {
        session.#received += text
        session.#wake()
      },
    })
    return session
  }

  /** Sends a line and waits for the line that answers it. */
  async ask(line) {
    await this.#handle.sendStdin(`${line}\n`)
    const endMs = performance.now() + ANSWER_TIMEOUT_MS
    for (let newline = this.#received.indexOf('\n'); ; newline = this.#received.indexOf('\n')) {
      if (newline >= 0) {
        const answer = this.#received.slice(0, newline)
        this.#received = this.#received.slice(newline + 1)
        return answer
      }
      const leftMs = endMs - performance.now()
      if (leftMs <= 0 || !this.#handle.isRunning) throw new Error(`no answer to ${line}: ${this.#handle.stderr}`)
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, leftMs)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }
}

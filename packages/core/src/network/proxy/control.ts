import { Socket } from 'node:net'
import { CONTROL_FD } from './config.js'

/**
 * The line to the engine. Its end is the engine's end, and then the proxy's. The engine says `close` after a rollback;
 * it hears `open N`, the number of connections that lead outside.
 */
export class Control {
  readonly #socket = new Socket({ fd: CONTROL_FD, readable: true, writable: true })
  #said = 0
  #open = 0

  constructor(onClose: () => void) {
    let line = ''
    this.#socket.setEncoding('latin1')
    this.#socket.on('data', (text: string) => {
      const lines = (line + text).split('\n')
      line = lines.pop() ?? ''
      if (lines.includes('close')) onClose()
    })
    this.#socket.on('error', () => process.exit(0))
    this.#socket.on('end', () => process.exit(0))
    this.#socket.on('drain', () => this.#say())
  }

  setOpen(count: number): void {
    this.#open = count
    this.#say()
  }

  // An engine that is busy hears the newest number later, not all of them.
  #say(): void {
    if (this.#said === this.#open || this.#socket.writableNeedDrain) return
    this.#said = this.#open
    this.#socket.write(`open ${this.#open}\n`)
  }
}

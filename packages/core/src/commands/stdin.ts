import type { Socket } from 'node:net'
import type { StdinSource } from './options.js'

/**
 * Writes a source to a command's stdin, as fast as the command reads, and ends it. Stops when the command has ended or
 * closed its stdin; a source that is still open is then left.
 * @throws what the source throws.
 */
export async function pumpStdin(source: StdinSource, stdin: Socket, exited: Promise<unknown>): Promise<void> {
  if (typeof source === 'string' || source instanceof Uint8Array) {
    stdin.end(source)
    return
  }
  const closed = new Promise<undefined>((resolve) => {
    stdin.once('close', () => resolve(undefined))
    const onExit = () => resolve(undefined)
    exited.then(onExit, onExit)
  })
  const iterator = source[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = iterator.next()
      // A source that fails once nobody listens any more is nobody's business.
      next.catch(() => undefined)
      const step = await Promise.race([next, closed])
      if (step === undefined || step.done === true) break
      if (!stdin.write(step.value)) {
        await Promise.race([new Promise((resolve) => stdin.once('drain', resolve)), closed])
      }
    }
  } finally {
    stdin.end()
    // Not awaited: a source that waits for its next piece answers only then.
    void Promise.resolve(iterator.return?.()).catch(() => undefined)
  }
}

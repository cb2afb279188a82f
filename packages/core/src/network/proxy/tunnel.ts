import type { Socket } from 'node:net'

/** Longer silence than any keep-alive leaves; beyond it a connection holds a place that others wait for. */
const IDLE_TIMEOUT_MS = 3_600_000

/** Passes bytes both ways, half-closes included, until both sides have ended or one fails. */
export function tunnel(inner: Socket, outer: Socket): void {
  for (const [from, to] of [
    [inner, outer],
    [outer, inner],
  ] as const) {
    from.setTimeout(IDLE_TIMEOUT_MS, () => from.destroy())
    from.on('error', () => to.destroy())
    from.once('close', () => to.destroySoon())
    from.pipe(to)
  }
}

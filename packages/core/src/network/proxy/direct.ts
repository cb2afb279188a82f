import type { Socket } from 'node:net'
import type { Dial } from './dial.js'
import { tunnel } from './tunnel.js'

/**
 * Serves a client that connected to the address which the name of a host has inside, and knows of no proxy. There is no
 * protocol in which it could be told why nothing is there: its connection is reset. A refusal is in the engine's log.
 */
export async function serveDirect(
  inner: Socket,
  { name, port }: { readonly name: string; readonly port: number },
  dial: Dial,
): Promise<void> {
  inner.on('error', () => inner.destroy())
  try {
    const outer = await dial(name, port)
    if (inner.destroyed) return void outer.destroy()
    tunnel(inner, outer)
  } catch {
    inner.resetAndDestroy()
  }
}

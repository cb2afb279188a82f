import { fileURLToPath } from 'node:url'
import type { ProxyConfig } from './proxy/config.js'

/** A user id that owns nothing: the first one behind the range of sandboxes (packages/native, sandbox/id_map.h). */
const NOBODYS_ID = 2_000_065_536
/** The proxy streams; what it holds are headers and chunks in flight. */
const MAX_HEAP_MB = 64

/** The command line of the proxy's own process. */
export function proxyCommand(allow: readonly string[]): string[] {
  // The compiled program, also where this module itself runs from its source.
  const program = fileURLToPath(new URL('../../dist/network/proxy/main.js', import.meta.url))
  const config: ProxyConfig = { allow: [...allow], ...(process.getuid?.() === 0 ? { dropToId: NOBODYS_ID } : {}) }
  return [process.execPath, `--max-old-space-size=${MAX_HEAP_MB}`, program, JSON.stringify(config)]
}

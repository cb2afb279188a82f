import { z } from 'zod'
import { parseRule } from './rules.js'

/** The list travels as one argument of the proxy's command line, at most 128 KiB. */
const MAX_ENTRIES = 256
const MAX_ENTRY_LENGTH = 300

const entry = z
  .string()
  .max(MAX_ENTRY_LENGTH)
  .refine(
    (text) => parseRule(text) !== undefined,
    'is none of host, host:port, *.domain, *.domain:port, address, address/prefix, address/prefix:port, [IPv6]:port',
  )

/** Schema of the option `network` of {@link Sandbox.create}. */
export const networkSchema = z.union([
  z.enum(['none', 'host']),
  z.strictObject({ allow: z.array(entry).max(MAX_ENTRIES) }),
])

/**
 * What a sandbox reaches.
 *
 * - `"none"`: a network of its own with nothing but loopback.
 * - `"host"`: the host's network as it is, the host's own services and abstract sockets included.
 * - `{ allow }`: loopback, and through a proxy the hosts that are named: `registry.example.org:443`, `*.example.org`
 *   (its subdomains), `10.0.0.0/8:5432`, `[2001:db8::1]:443`, `*` (every public host). Without a port, all ports of it.
 *   Plain names with their port (80 and 443 without one) need no proxy: every program reaches them as usual. Addresses that are not public are reached only if an address or range names them.
 */
export type NetworkOption = 'none' | 'host' | { readonly allow: readonly string[] }

import { createOptionsFromFlags, Sandbox, type CreateFlagValues } from '@deltabox/core'
import { ToolSession } from '@deltabox/core/tools'

/** Which sandbox a server works in: a running one, or one of its own that is made as the flags say. */
export interface ServerOptions extends CreateFlagValues {
  /** Id of a running sandbox to attach to, which outlives the server; it is what it is, so there are no other options. */
  readonly sandbox?: string | undefined
}

/** A server that is killed can't end its sandbox; long enough to attach another one to it. */
const ORPHAN_TIMEOUT_MS = 600_000

/**
 * The session of a server: nothing is made before the first tool call.
 * @throws INVALID_ARGUMENT for flags that contradict each other
 */
export function openSession({ sandbox, ...flags }: ServerOptions): ToolSession {
  if (sandbox !== undefined) {
    return new ToolSession({ open: () => Sandbox.connect(sandbox), atClose: 'disconnect' })
  }
  const options = createOptionsFromFlags({ name: 'mcp-server', ...flags })
  return new ToolSession({
    open: () => Sandbox.create({ orphanTimeoutMs: ORPHAN_TIMEOUT_MS, ...options }),
    atClose: 'kill',
  })
}

import { Sandbox } from '@deltabox/core'
import { ToolSession } from '@deltabox/core/tools'

/** Which sandbox a server works in. */
export interface ServerOptions {
  /** Directory for a sandbox of its own. @default the current directory */
  readonly workspace?: string | undefined
  /** Id of a running sandbox to attach to, which outlives the server. */
  readonly sandbox?: string | undefined
}

/** A server that is killed can't end its sandbox; long enough to attach another one to it. */
const ORPHAN_TIMEOUT_MS = 600_000

/** The session of a server: nothing is made before the first tool call. */
export function openSession({ workspace = '.', sandbox }: ServerOptions): ToolSession {
  if (sandbox !== undefined) {
    return new ToolSession({ open: () => Sandbox.connect(sandbox), atClose: 'disconnect' })
  }
  return new ToolSession({
    open: () => Sandbox.create({ workspace, metadata: { name: 'mcp-server' }, orphanTimeoutMs: ORPHAN_TIMEOUT_MS }),
    atClose: 'kill',
  })
}

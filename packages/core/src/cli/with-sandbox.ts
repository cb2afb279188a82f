import { Sandbox } from '../sandbox/sandbox.js'
import type { CliContext } from './context.js'

/** Connects to a sandbox for as long as `use` takes. @throws what `Sandbox.connect` and `use` throw */
export async function withSandbox(
  context: CliContext,
  id: string,
  use: (sandbox: Sandbox) => Promise<void>,
): Promise<void> {
  const sandbox = await Sandbox.connect(id, { signal: context.interrupted })
  try {
    await use(sandbox)
  } finally {
    sandbox.disconnect()
  }
}

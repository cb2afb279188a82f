import { Sandbox } from '@deltabox/core'

/** Makes a sandbox, and ends it whatever happens. */
export async function withSandbox(options, use) {
  const sandbox = await Sandbox.create(options)
  try {
    return await use(sandbox)
  } finally {
    await Sandbox.kill(sandbox.id)
  }
}

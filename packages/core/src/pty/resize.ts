import { validate } from '../errors/validate.js'
import type { EngineClient } from '../protocol/engine-client.js'
import { toWireName, type CommandName } from '../commands/command-handle.js'
import { ptySizeSchema, type PtySize } from './options.js'

/** @throws COMMAND_NOT_FOUND, INVALID_ARGUMENT, STALE_GENERATION */
export async function resizeTerminal(client: EngineClient, name: CommandName, size: PtySize): Promise<void> {
  const checked = validate(ptySizeSchema, size, 'size')
  await client.request(
    { case: 'resize', value: { ...toWireName(name), size: checked } },
    { expect: 'empty', accept: () => undefined },
  )
}

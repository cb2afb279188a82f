import type { Command } from 'commander'
import { DeltaboxError } from '../../errors/deltabox-error.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { action, jsonOption, print, reportFailure, type CliContext, type JsonOption } from '../context.js'

export function registerRm(program: Command, context: CliContext): void {
  program
    .command('rm')
    .description(
      'end sandboxes, running or dead, and remove them; what cannot be removed is reported, and the others go',
    )
    .argument('<id...>', 'sandbox ids')
    .addOption(jsonOption())
    .action(
      action(context, async (ids: string[], flags: JsonOption) => {
        const removed: string[] = []
        const errors: unknown[] = []
        for (const id of ids) {
          try {
            await removeOne(id)
            removed.push(id)
          } catch (error) {
            errors.push(error)
          }
        }
        if (flags.json === true) {
          print(context, flags, { removed, ...(errors.length === 0 ? {} : { error: errors[0], errors }) }, '')
        } else {
          print(context, flags, undefined, removed.join('\n'))
        }
        for (const error of errors) reportFailure(context, {}, error)
      }),
    )
}

async function removeOne(id: string): Promise<void> {
  if (await Sandbox.kill(id)) return
  throw new DeltaboxError('SANDBOX_NOT_FOUND', {
    message: `there is no sandbox ${id}`,
    nextStep: 'run `deltabox ls` to see the sandboxes',
  })
}

import type { Command } from 'commander'
import { DeltaboxError } from '../../errors/deltabox-error.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'

export function registerRm(program: Command, context: CliContext): void {
  program
    .command('rm')
    .description('end sandboxes, running or dead, and remove all of them')
    .argument('<id...>', 'sandbox ids')
    .addOption(jsonOption())
    .action(
      action(context, async (ids: string[], flags: JsonOption) => {
        for (const id of ids) {
          if (await Sandbox.kill(id)) continue
          throw new DeltaboxError('SANDBOX_NOT_FOUND', {
            message: `there is no sandbox ${id}`,
            nextStep: 'run `deltabox ls` to see the sandboxes',
          })
        }
        print(context, flags, { removed: ids }, ids.join('\n'))
      }),
    )
}

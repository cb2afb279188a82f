import type { Command } from 'commander'
import { renderCheckpointTree } from '../../checkpoints/render.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'
import { withSandbox } from '../with-sandbox.js'

export function registerTree(program: Command, context: CliContext): void {
  program
    .command('tree')
    .description('print the tree of a sandbox’s checkpoints')
    .argument('<id>', 'sandbox id')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, flags: JsonOption) => {
        await withSandbox(context, id, async (sandbox) => {
          const list = await sandbox.listCheckpoints()
          print(context, flags, list, renderCheckpointTree(list))
        })
      }),
    )
}

import type { Command } from 'commander'
import { renderCheckpointTree } from '../../checkpoints/render.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'

export function registerTree(program: Command, context: CliContext): void {
  program
    .command('tree')
    .description('print the tree of a sandbox’s checkpoints')
    .argument('<id>', 'sandbox id')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, flags: JsonOption) => {
        const sandbox = await Sandbox.connect(id, { signal: context.interrupted })
        try {
          const list = await sandbox.listCheckpoints()
          print(context, flags, list, renderCheckpointTree(list))
        } finally {
          sandbox.disconnect()
        }
      }),
    )
}

import type { Command } from 'commander'
import { explainPause } from '../../checkpoints/explain.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'
import { withSandbox } from '../with-sandbox.js'

interface CheckpointFlags extends JsonOption {
  readonly name?: string
  readonly strict?: boolean
  readonly pin?: boolean
  readonly trace?: boolean
}

export function registerCheckpoint(program: Command, context: CliContext): void {
  program
    .command('checkpoint')
    .description('keep the state of the files and processes of a sandbox, and print the checkpoint’s id')
    .argument('<id>', 'sandbox id')
    .option('--name <name>', 'a name to roll back to')
    .option('--strict', 'fail if something cannot be captured')
    .option('--pin', 'keep it in memory, whatever else goes to the disk')
    .option('--trace', 'say on stderr where the time went')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, flags: CheckpointFlags) => {
        await withSandbox(context, id, async (sandbox) => {
          const checkpoint = await sandbox.checkpoint({
            ...(flags.name === undefined ? {} : { name: flags.name }),
            ...(flags.pin === undefined ? {} : { pinned: flags.pin }),
            ...(flags.strict === undefined ? {} : { strict: flags.strict }),
          })
          if (flags.trace === true) context.stderr(`${explainPause(checkpoint)}\n`)
          for (const { pid, kind, reason } of checkpoint.warnings) {
            context.stderr(`warning: not captured: pid ${pid}: ${kind}: ${reason}\n`)
          }
          print(context, flags, checkpoint, checkpoint.id)
        })
      }),
    )
}

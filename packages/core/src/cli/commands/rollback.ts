import type { Command } from 'commander'
import { explainPause } from '../../checkpoints/explain.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'
import { withSandbox } from '../with-sandbox.js'

interface RollbackFlags extends JsonOption {
  readonly redo: boolean
  readonly strict?: boolean
  readonly trace?: boolean
}

export function registerRollback(program: Command, context: CliContext): void {
  program
    .command('rollback')
    .description('return the files and processes of a sandbox to a checkpoint')
    .argument('<id>', 'sandbox id')
    .argument('<target>', 'id or name of a checkpoint')
    .option('--no-redo', 'take no safety checkpoint first: the rollback cannot be undone')
    .option('--strict', 'fail if something cannot be restored')
    .option('--trace', 'say on stderr where the time went')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, target: string, flags: RollbackFlags) => {
        await withSandbox(context, id, async (sandbox) => {
          const done = await sandbox.rollback(target, {
            redo: flags.redo,
            ...(flags.strict === undefined ? {} : { strict: flags.strict }),
          })
          if (flags.trace === true) context.stderr(`${explainPause(done)}\n`)
          for (const { pid, kind, reason } of done.notRestored) {
            context.stderr(`warning: not restored: pid ${pid}: ${kind}: ${reason}\n`)
          }
          const undo =
            done.safetyCheckpoint === null ? '' : `; to undo: deltabox rollback ${id} ${done.safetyCheckpoint}`
          print(context, flags, done, `at ${done.checkpoint}${undo}`)
        })
      }),
    )
}

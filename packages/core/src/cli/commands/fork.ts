import type { Command } from 'commander'
import { DeltaboxError } from '../../errors/deltabox-error.js'
import type { Sandbox } from '../../sandbox/sandbox.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'
import { withSandbox } from '../with-sandbox.js'

interface ForkFlags extends JsonOption {
  readonly from?: string
  readonly count: string
  readonly name?: string
  readonly beforeThaw?: string
}

export function registerFork(program: Command, context: CliContext): void {
  program
    .command('fork')
    .description('make sandboxes that go on from a checkpoint of another one, and print their ids')
    .argument('<id>', 'sandbox id')
    .option('--from <checkpoint>', 'id or name (default: a new checkpoint of the state as it is)')
    .option('--count <n>', 'how many', '1')
    .option('--name <name>', 'of the forks, shown by `deltabox ls`')
    .option('--before-thaw <line>', 'shell line, run in each before its processes go on; $DELTABOX_FORK counts from 0')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, { from, count, name, beforeThaw, ...flags }: ForkFlags) => {
        await withSandbox(context, id, async (sandbox) => {
          const { checkpoint, sandboxes, failures } = await sandbox.fork({
            ...(from === undefined ? {} : { from }),
            ...(name === undefined ? {} : { metadata: { name } }),
            ...(beforeThaw === undefined ? {} : { beforeThaw: runLine(beforeThaw) }),
            count: /^\d+$/.test(count) ? Number(count) : NaN,
            signal: context.interrupted,
          })
          for (const fork of sandboxes) {
            for (const warning of (await fork.getInfo()).warnings) context.stderr(`warning: ${fork.id}: ${warning}\n`)
            fork.disconnect()
          }
          for (const failure of failures) context.stderr(`not forked: ${sentence(failure)}\n`)
          const ids = sandboxes.map((fork) => fork.id)
          print(context, flags, { checkpoint, sandboxes: ids, failures: failures.map(sentence) }, ids.join('\n'))
          if (failures.length > 0) context.setExitCode(1)
        })
      }),
    )
}

/** A hook that fails where the line does. */
const runLine = (line: string) => async (fork: Sandbox, index: number) => {
  const { exitCode, signal, stderr } = await fork.commands.run(line, { envs: { DELTABOX_FORK: String(index) } })
  if (exitCode === 0) return
  const how = signal === null ? `exit code ${exitCode}` : signal
  throw new DeltaboxError('INVALID_ARGUMENT', {
    message: `--before-thaw ended with ${how}: ${stderr.trim() || line}`,
    nextStep: 'Try the line with `deltabox exec` first.',
  })
}

const sentence = (failure: unknown) =>
  failure instanceof DeltaboxError ? `${failure.code}: ${failure.message}` : String(failure)

import type { Command } from 'commander'
import { DeltaboxError } from '../../errors/deltabox-error.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { getHotBudget, setHotBudget } from '../../state/hot-budget.js'
import { renderBytes } from '../../text/bytes.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'

export function registerBudget(program: Command, context: CliContext): void {
  program
    .command('budget')
    .description('show or set how much memory the checkpoints of all sandboxes may take together')
    .argument('[bytes]', 'the bound from now on, or `none`')
    .addOption(jsonOption())
    .action(
      action(context, async (bytes: string | undefined, flags: JsonOption) => {
        if (bytes !== undefined) await setHotBudget(toBound(bytes))
        const bound = await getHotBudget()
        const total = await totalHotBytes(context.interrupted)
        const text = `${renderBytes(total)} of ${bound === null ? 'no bound' : renderBytes(bound)}`
        print(context, flags, { boundBytes: bound, totalBytes: total }, text)
      }),
    )
}

function toBound(text: string): number | null {
  if (text === 'none') return null
  if (/^[1-9]\d*$/.test(text)) return Number(text)
  throw new DeltaboxError('INVALID_ARGUMENT', {
    message: `not a bound: ${text}`,
    nextStep: 'Give a number of bytes, or none.',
  })
}

/** Any engine knows it of all; 0 where none runs. */
async function totalHotBytes(signal: AbortSignal): Promise<number> {
  for (const { id, state } of await Sandbox.list()) {
    if (state !== 'running') continue
    const sandbox = await Sandbox.connect(id, { signal }).catch(() => undefined)
    try {
      const metrics = await sandbox?.getMetrics()
      if (metrics !== undefined) return metrics.hotTotalBytes
    } catch {
      // It ended meanwhile; another one knows.
    } finally {
      sandbox?.disconnect()
    }
  }
  return 0
}

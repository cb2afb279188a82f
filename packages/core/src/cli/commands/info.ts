import type { Command } from 'commander'
import type { SandboxInfo, SandboxMetrics } from '../../sandbox/options.js'
import { renderBytes } from '../../text/bytes.js'
import { printable } from '../../text/printable.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'
import { withSandbox } from '../with-sandbox.js'

export function registerInfo(program: Command, context: CliContext): void {
  program
    .command('info')
    .description('say what a sandbox is and what it uses')
    .argument('<id>', 'sandbox id')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, flags: JsonOption) => {
        await withSandbox(context, id, async (sandbox) => {
          const [info, metrics] = [await sandbox.getInfo(), await sandbox.getMetrics()]
          print(context, flags, { info, metrics }, renderInfo(info, metrics))
        })
      }),
    )
}

function renderInfo(info: SandboxInfo, metrics: SandboxMetrics): string {
  const { hotBoundBytes: bound, coldCheckpoints: cold } = metrics
  const network = typeof info.network === 'string' ? info.network : `only ${info.network.allow.join(', ')}`
  const all = bound === null ? '' : `; all sandboxes ${renderBytes(metrics.hotTotalBytes)} of ${renderBytes(bound)}`
  const lines: [string, string][] = [
    ['id', info.id],
    ['workspace', `${info.workspace} at ${info.workspaceMount}`],
    ['created', new Date(info.createdAtMs).toISOString()],
    ['network', network],
    ['processes', `${metrics.tasks}, with ${metrics.threads} threads and ${renderBytes(metrics.memoryBytes)}`],
    ['checkpoints', `${metrics.checkpoints}, ${cold} of them cold; head ${info.head ?? 'none'}`],
    ['memory of them', `${renderBytes(metrics.pageStoreBytes)}${all}`],
    ['disk', `${metrics.diskIsLowerBound ? 'more than ' : ''}${renderBytes(metrics.diskBytes)}`],
    ['engine', `pid ${info.enginePid}, ${renderBytes(metrics.engine.rssBytes)}, ${metrics.engine.openFds} descriptors`],
    ...Object.entries(info.metadata).map(([name, value]): [string, string] => [`label ${name}`, value]),
    ...info.warnings.map((warning): [string, string] => ['warning', warning]),
  ]
  const width = Math.max(...lines.map(([name]) => name.length)) + 2
  return lines.map(([name, value]) => printable(name).padEnd(width) + printable(value)).join('\n')
}

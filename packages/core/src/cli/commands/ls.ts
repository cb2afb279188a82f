import type { Command } from 'commander'
import { Sandbox } from '../../sandbox/sandbox.js'
import type { SandboxListEntry } from '../../sandbox/options.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'
import { printable } from '../../text/printable.js'
import { renderTable } from '../../text/table.js'

const HEADINGS = ['ID', 'STATE', 'NAME', 'CREATED', 'WORKSPACE']

function toRow({ id, state, workspace, createdAtMs, metadata }: SandboxListEntry): string[] {
  const created = createdAtMs === null ? '?' : new Date(createdAtMs).toISOString().slice(0, 19) + 'Z'
  return [id, state, metadata['name'] ?? '', created, workspace ?? '?'].map(printable)
}

export function registerLs(program: Command, context: CliContext): void {
  program
    .command('ls')
    .description('list the sandboxes')
    .addOption(jsonOption())
    .action(
      action(context, async (flags: JsonOption) => {
        const entries = await Sandbox.list()
        print(
          context,
          flags,
          entries,
          entries.length === 0 ? 'no sandboxes' : renderTable(HEADINGS, entries.map(toRow)),
        )
      }),
    )
}

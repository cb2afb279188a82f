import type { Command } from 'commander'
import { renderDemoReport } from '../../demo/report.js'
import { playDemo } from '../../demo/story.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'

export function registerDemo(program: Command, context: CliContext): void {
  program
    .command('demo')
    .description('break a real project and a live Python session in a sandbox, and roll both back')
    .addOption(jsonOption())
    .action(
      action(context, async (flags: JsonOption) => {
        const say = flags.json === true ? () => undefined : (line: string) => context.stdout(`${line}\n`)
        const outcome = await playDemo(say, context.interrupted)
        print(context, flags, outcome, renderDemoReport(outcome))
        if (outcome.claims.some(({ holds }) => !holds)) context.setExitCode(1)
      }),
    )
}

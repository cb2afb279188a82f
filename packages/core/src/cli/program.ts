import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { registerBudget } from './commands/budget.js'
import { registerCheckpoint } from './commands/checkpoint.js'
import { registerCreate } from './commands/create.js'
import { registerDemo } from './commands/demo.js'
import { registerDoctor } from './commands/doctor.js'
import { registerExec } from './commands/exec.js'
import { registerFork } from './commands/fork.js'
import { registerForward } from './commands/forward.js'
import { registerInfo } from './commands/info.js'
import { registerLs } from './commands/ls.js'
import { registerRm } from './commands/rm.js'
import { registerRollback } from './commands/rollback.js'
import { registerShell } from './commands/shell.js'
import { registerTop } from './commands/top.js'
import { registerTree } from './commands/tree.js'
import type { CliContext } from './context.js'

const USAGE_EXIT_CODE = 2

const packagePath = new URL('../../package.json', import.meta.url)
const { version } = JSON.parse(readFileSync(packagePath, 'utf8')) as { version: string }

/** The program with all its commands; each reports its own failures. */
export function buildProgram(context: CliContext): Command {
  const program = new Command('deltabox')
    .description('sandboxes whose files and live processes roll back together')
    .version(version)
    .configureOutput({ writeOut: context.stdout, writeErr: context.stderr })
    .exitOverride()
  for (const register of [
    ...[registerDoctor, registerDemo, registerCreate, registerExec, registerShell],
    ...[
      registerCheckpoint,
      registerRollback,
      registerTree,
      registerFork,
      registerForward,
      registerLs,
      registerInfo,
      registerTop,
      registerBudget,
      registerRm,
    ],
  ]) {
    register(program, context)
  }
  return program
}

/** Parses and runs one call of the program; the exit code goes to the context. */
export async function runCli(args: readonly string[], context: CliContext): Promise<void> {
  try {
    await buildProgram(context).parseAsync(args, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // commander has printed what is wrong; help that was asked for is no error.
    context.setExitCode(error.exitCode === 0 ? 0 : USAGE_EXIT_CODE)
  }
}

import type { Command } from 'commander'
import { constants } from 'node:os'
import { text } from 'node:stream/consumers'
import type { CommandResult } from '../../commands/options.js'
import { DeltaboxError } from '../../errors/deltabox-error.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'

interface ExecFlags extends JsonOption {
  readonly cwd?: string
  readonly env: readonly string[]
  readonly timeoutMs?: string
  readonly detach?: boolean
  readonly stdin?: boolean
}

/** As a shell reports an end by signal. */
const SIGNAL_EXIT_BASE = 128

export function registerExec(program: Command, context: CliContext): void {
  program
    .command('exec')
    .description('run a command in a sandbox, stream its output, and exit with its exit code')
    .argument('<id>', 'sandbox id')
    .argument('<command...>', 'program and arguments, after --; for a shell line: -- bash -c "…"')
    .option('--cwd <dir>', 'directory inside the sandbox')
    .option('--env <NAME=value>', 'add a variable (repeatable)', (value, all: string[]) => [...all, value], [])
    .option('--timeout-ms <ms>', 'kill the command after this long')
    .option('--stdin', 'pass what comes in on stdin')
    .option('--detach', 'leave the command running and print its id')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, argv: string[], flags: ExecFlags) => {
        const envs = parseEnvs(flags.env)
        const sandbox = await Sandbox.connect(id, { signal: context.interrupted })
        try {
          const common = { envs, ...(flags.cwd === undefined ? {} : { cwd: flags.cwd }) }
          if (flags.detach === true) await detach(sandbox, argv, common, flags, context)
          else await attach(sandbox, argv, common, flags, context)
        } finally {
          sandbox.disconnect()
        }
      }),
    )
}

interface CommonFields {
  readonly envs: Record<string, string>
  readonly cwd?: string
}

async function detach(
  sandbox: Sandbox,
  argv: string[],
  common: CommonFields,
  flags: ExecFlags,
  context: CliContext,
): Promise<void> {
  const handle = await sandbox.commands.run(argv, {
    ...common,
    background: true,
    stdin: false,
    label: argv.join(' ').slice(0, 200),
  })
  print(
    context,
    flags,
    { commandId: handle.commandId, pid: handle.pid },
    `command ${handle.commandId}, pid ${handle.pid}`,
  )
}

async function attach(
  sandbox: Sandbox,
  argv: string[],
  common: CommonFields,
  flags: ExecFlags,
  context: CliContext,
): Promise<void> {
  const live = flags.json === true ? {} : { onStdout: context.stdout, onStderr: context.stderr, maxOutputBytes: 0 }
  const result = await sandbox.commands.run(argv, {
    ...common,
    ...live,
    ...(flags.timeoutMs === undefined ? {} : { timeoutMs: Number(flags.timeoutMs) }),
    ...(flags.stdin === true ? { stdin: await text(process.stdin) } : {}),
    signal: context.interrupted,
  })
  if (flags.json === true) print(context, flags, result, '')
  context.setExitCode(toExitCode(result))
}

function toExitCode({ exitCode, signal }: CommandResult): number {
  if (exitCode !== null) return exitCode
  return SIGNAL_EXIT_BASE + (constants.signals[signal as NodeJS.Signals] ?? 0)
}

function parseEnvs(assignments: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    assignments.map((assignment) => {
      const equals = assignment.indexOf('=')
      if (equals > 0) return [assignment.slice(0, equals), assignment.slice(equals + 1)]
      throw new DeltaboxError('INVALID_ARGUMENT', {
        message: `--env ${assignment}: there is no NAME=value`,
        nextStep: 'write --env NAME=value',
      })
    }),
  )
}

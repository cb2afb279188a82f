import type { Command } from 'commander'
import { DeltaboxError } from '../../errors/deltabox-error.js'
import type { Sandbox } from '../../sandbox/sandbox.js'
import { toExitCode } from '../exit-code.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'
import { withSandbox } from '../with-sandbox.js'

interface ExecFlags extends JsonOption {
  readonly cwd?: string
  readonly env: readonly string[]
  readonly timeoutMs?: string
  readonly detach?: boolean
  readonly stdin?: boolean
  readonly user?: string
}

export function registerExec(program: Command, context: CliContext): void {
  program
    .command('exec')
    .description('run a command in a sandbox, stream its output, and exit with its exit code')
    .argument('<id>', 'sandbox id')
    .argument('<command...>', 'program and arguments, after --; for a shell line: -- bash -c "…"')
    .option('--cwd <dir>', 'directory inside the sandbox')
    .option('--env <NAME=value>', 'add a variable (repeatable)', (value, all: string[]) => [...all, value], [])
    .option('--timeout-ms <ms>', 'kill the command after this long')
    .option('--user <user>', 'name or uid of a user of the sandbox')
    .option('--stdin', 'pass what comes in on stdin')
    .option('--detach', 'leave the command running and print its id')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, argv: string[], flags: ExecFlags) => {
        const envs = parseEnvs(flags.env)
        await withSandbox(context, id, async (sandbox) => {
          const common = {
            envs,
            ...(flags.cwd === undefined ? {} : { cwd: flags.cwd }),
            ...(flags.user === undefined ? {} : { user: flags.user }),
          }
          if (flags.detach === true) await detach(sandbox, argv, common, flags, context)
          else await attach(sandbox, argv, common, flags, context)
        })
      }),
    )
}

interface CommonFields {
  readonly envs: Record<string, string>
  readonly cwd?: string
  readonly user?: string
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
  const live =
    flags.json === true
      ? {}
      : { onStdoutBytes: context.stdoutBytes, onStderrBytes: context.stderrBytes, maxOutputBytes: 0 }
  let release = () => undefined as void
  try {
    const result = await sandbox.commands.run(argv, {
      ...common,
      ...live,
      ...(flags.timeoutMs === undefined ? {} : { timeoutMs: Number(flags.timeoutMs) }),
      ...(flags.stdin === true ? { stdin: process.stdin } : {}),
      signal: context.interrupted,
      // The first Ctrl-C is the command's, which may want to tidy up; a second one kills it.
      onStarted: ({ commandId }) => {
        release = context.onSignal((signal) => void sandbox.commands.kill(commandId, signal).catch(() => undefined))
      },
    })
    if (flags.json === true) print(context, flags, result, '')
    if (result.limit !== null) context.stderr(`warning: beyond the sandbox's limit ${result.limit}\n`)
    context.setExitCode(toExitCode(result))
  } finally {
    release()
    // It would keep this program waiting for input that nobody wants any more.
    if (flags.stdin === true) process.stdin.destroy()
  }
}

export function parseEnvs(assignments: readonly string[]): Record<string, string> {
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

import { setTimeout } from 'node:timers/promises'
import type { Command } from 'commander'
import { DeltaboxError, isDeltaboxError } from '../../errors/deltabox-error.js'
import type { PtyHandle } from '../../pty/pty-handle.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { action, type CliContext } from '../context.js'
import { toExitCode } from '../exit-code.js'
import { OwnTerminal } from '../terminal.js'
import { parseEnvs } from './exec.js'

interface ShellFlags {
  readonly workspace?: string
  readonly cwd?: string
  readonly env: readonly string[]
  readonly user?: string
  readonly attach?: string
}

const BUSY_PAUSE_MS = 50
/** A sandbox that was made for one shell is of no use without it. */
const ORPHAN_TIMEOUT_MS = 60_000

// Run by bash before its first prompt, so that it needs no file in the sandbox: a prompt and colours, unless the
// sandbox has a ~/.bashrc that may know better.
const FIRST_PROMPT =
  'unset PROMPT_COMMAND; [ -e ~/.bashrc ] || { ' +
  "PS1='\\[\\e[1;36m\\]deltabox\\[\\e[0m\\]:\\[\\e[1;34m\\]\\w\\[\\e[0m\\]\\$ '; " +
  "alias ls='ls --color=auto' grep='grep --color=auto' ll='ls -l'; }"

export function registerShell(program: Command, context: CliContext): void {
  program
    .command('shell')
    .description('a shell on a terminal in a sandbox; without an id in a new one, which is removed at the end')
    .argument('[id]', 'sandbox id')
    .argument('[command...]', 'program and arguments instead of bash, after --')
    .option('--workspace <dir>', 'without an id: directory that the new sandbox sees as its workspace (default: .)')
    .option('--cwd <dir>', 'directory inside the sandbox')
    .option('--env <NAME=value>', 'add a variable (repeatable)', (value, all: string[]) => [...all, value], [])
    .option('--user <user>', 'name or uid of a user of the sandbox')
    .option('--attach <pid>', 'a shell that runs there already, by its pid inside')
    .action(
      action(context, async (id: string | undefined, argv: string[], flags: ShellFlags) => {
        // Before anything is made.
        const terminal = new OwnTerminal()
        const sandbox = await open(id, flags, context)
        try {
          context.setExitCode(await converse(sandbox, terminal, argv, flags, context))
        } finally {
          terminal.restore()
          if (id === undefined) await sandbox.kill()
          else sandbox.disconnect()
        }
      }),
    )
}

async function open(id: string | undefined, { workspace, attach }: ShellFlags, context: CliContext): Promise<Sandbox> {
  const signal = context.interrupted
  if (id !== undefined && workspace === undefined) return Sandbox.connect(id, { signal })
  if (id === undefined && attach === undefined) {
    const metadata = { name: 'shell' }
    return Sandbox.create({ workspace: workspace ?? '.', metadata, orphanTimeoutMs: ORPHAN_TIMEOUT_MS, signal })
  }
  throw new DeltaboxError('INVALID_ARGUMENT', {
    message: id === undefined ? '--attach needs the id of a sandbox' : '--workspace is for a new sandbox',
    nextStep: 'run `deltabox shell --help`',
  })
}

/** Returns the exit code of what ran. */
async function converse(
  sandbox: Sandbox,
  terminal: OwnTerminal,
  argv: readonly string[],
  flags: ShellFlags,
  context: CliContext,
): Promise<number> {
  const onData = (data: Uint8Array) => void process.stdout.write(data)
  const handle =
    flags.attach === undefined
      ? await sandbox.pty.create({
          ...terminal.size,
          onData,
          envs: { PROMPT_COMMAND: FIRST_PROMPT, ...terminal.variables, ...parseEnvs(flags.env) },
          ...(argv.length === 0 ? {} : { command: argv }),
          ...(flags.cwd === undefined ? {} : { cwd: flags.cwd }),
          ...(flags.user === undefined ? {} : { user: flags.user }),
          signal: context.interrupted,
        })
      : await sandbox.pty.connect(Number(flags.attach), { onData, signal: context.interrupted })
  const type = typeInOrder(handle)
  terminal.enterRaw(type, (size) => void handle.resize(size).catch(() => undefined))
  if (flags.attach !== undefined) await handle.resize(terminal.size)
  return toExitCode(await handle.wait({ signal: context.interrupted }))
}

/** Sends what is typed, one piece after another; waits while the command does not read. */
function typeInOrder(handle: PtyHandle): (data: Uint8Array) => void {
  let before = Promise.resolve()
  return (data) => {
    before = before.then(async () => {
      while (handle.isRunning) {
        try {
          await handle.sendInput(data)
          return
        } catch (error) {
          // Its end, and the connection's, are reported by wait().
          if (!isDeltaboxError(error, 'BUSY')) return
          await setTimeout(BUSY_PAUSE_MS)
        }
      }
    })
  }
}

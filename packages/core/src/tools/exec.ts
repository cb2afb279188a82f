import { z } from 'zod'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { defineTool, type ToolCall, type ToolOutcome } from './define-tool.js'
import type { HeldCommand } from './background-commands.js'
import type { ToolSandbox } from './tool-sandbox.js'
import { renderStreams, shorten } from './text.js'

const DEFAULT_TIMEOUT_MS = 120_000
const DEFAULT_WAIT_MS = 2_000
/** Long enough for builds and test suites; nobody waits longer for one answer. */
const MAX_TIMEOUT_MS = 3_600_000
const MAX_WAIT_MS = 600_000

/** Those that mean something to a program that somebody else started. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGKILL', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const

const inputSchema = z.strictObject({
  command: z.string().min(1).optional().describe('Shell line for bash. Give either this or commandId.'),
  commandId: z
    .int()
    .min(1)
    .optional()
    .describe('A background command: sends it stdin (if given) and returns what it printed since the last look.'),
  stdin: z
    .string()
    .optional()
    .describe('Text for the standard input. A session that reads lines needs the final newline.'),
  endStdin: z
    .boolean()
    .optional()
    .describe(
      'Background: the standard input ends here, after stdin; a program that reads to the end goes on. Default: false.',
    ),
  signal: z
    .enum(SIGNALS)
    .optional()
    .describe('With commandId: send it this signal: SIGINT is Ctrl-C, SIGTERM asks it to end, SIGKILL ends it.'),
  background: z
    .boolean()
    .optional()
    .describe('Start the command and leave it running, with stdin open; returns its commandId. Default: false.'),
  cwd: z.string().optional().describe('Absolute directory inside the sandbox. Default: the workspace.'),
  timeoutMs: z
    .int()
    .min(1)
    .max(MAX_TIMEOUT_MS)
    .optional()
    .describe(`Foreground: the command is killed after this many milliseconds. Default: ${DEFAULT_TIMEOUT_MS}.`),
  waitMs: z
    .int()
    .min(0)
    .max(MAX_WAIT_MS)
    .optional()
    .describe(`Background: longest wait for output, in milliseconds. Default: ${DEFAULT_WAIT_MS}.`),
})

const outputSchema = z.object({
  commandId: z.int().nullable().describe('Of a background command.'),
  pid: z.int().nullable().describe('Of a background command, inside the sandbox.'),
  running: z.boolean(),
  exitCode: z.int().nullable().describe('Null while it runs and when a signal ended it.'),
  signal: z.string().nullable(),
  limit: z.string().nullable().describe('The limit of the sandbox for which it was ended, for example outputBytes.'),
  stdout: z.string(),
  stderr: z.string(),
  truncated: z.boolean().describe('Whether output was left out.'),
})

type Input = z.output<typeof inputSchema>
type Output = z.output<typeof outputSchema>

/** Runs commands; holds live sessions in the background. */
export const execTool = defineTool({
  name: 'exec',
  title: 'Run a command in the sandbox',
  description:
    'Runs a shell command in the sandbox and returns its exit code and output. With background: true the command ' +
    'keeps running with its stdin open (a server, a Python session with `python3 -i -q`); call exec again with its ' +
    'commandId to send it stdin or a signal and to read what it printed. Background commands are part of every checkpoint: ' +
    'their memory returns with a rollback.',
  inputSchema,
  outputSchema,
  isReadOnly: false,
  isDestructive: true,
  run: async (place, input, call) => {
    assertOneKind(input)
    if (input.commandId !== undefined) return talkToBackground(place, input.commandId, input, call)
    const command = input.command ?? ''
    return input.background === true
      ? startBackground(place, command, input, call)
      : runForeground(place, command, input, call)
  },
})

function assertOneKind(input: Input): void {
  const { command, commandId, background, cwd, timeoutMs, waitMs, signal, endStdin } = input
  const wrong = (message: string, nextStep: string) => new DeltaboxError('INVALID_ARGUMENT', { message, nextStep })
  if ((command === undefined) === (commandId === undefined)) {
    throw wrong('exec needs exactly one of command and commandId', 'give one of them')
  }
  if (commandId !== undefined && (background !== undefined || cwd !== undefined || timeoutMs !== undefined)) {
    throw wrong('background, cwd and timeoutMs belong to a new command', 'leave them out beside commandId')
  }
  if (commandId === undefined && signal !== undefined) {
    throw wrong('signal is for a background command that runs', 'give its commandId in place of command')
  }
  if (background !== true && commandId === undefined && endStdin !== undefined) {
    throw wrong('the standard input of a foreground command always ends after stdin', 'leave endStdin out')
  }
  if (background === true && timeoutMs !== undefined) {
    throw wrong('a background command has no timeoutMs', 'use waitMs for how long to wait for its first output')
  }
  if (background !== true && commandId === undefined && waitMs !== undefined) {
    throw wrong('a foreground command has no waitMs', 'use timeoutMs for how long it may run')
  }
}

async function runForeground(
  place: ToolSandbox,
  command: string,
  { cwd, stdin, timeoutMs = DEFAULT_TIMEOUT_MS }: Input,
  { signal }: ToolCall,
): Promise<ToolOutcome<Output>> {
  const { commands } = await place.sandbox()
  const result = await commands.run(command, {
    timeoutMs,
    ...(cwd === undefined ? {} : { cwd }),
    ...(stdin === undefined ? {} : { stdin }),
    ...(signal === undefined ? {} : { signal }),
  })
  return toOutcome({ ...result, commandId: null, pid: null, running: false })
}

async function startBackground(
  place: ToolSandbox,
  command: string,
  { cwd, stdin, endStdin, waitMs = DEFAULT_WAIT_MS }: Input,
  { signal }: ToolCall,
): Promise<ToolOutcome<Output>> {
  const background = await place.background()
  const held = await background.start(command, {
    label: command.slice(0, 200),
    ...(cwd === undefined ? {} : { cwd }),
    ...(signal === undefined ? {} : { signal }),
  })
  await feed(held, stdin, endStdin)
  return describe(held, await background.read(held, waitMs, signal))
}

async function feed({ handle }: HeldCommand, stdin: string | undefined, end = false): Promise<void> {
  if (stdin !== undefined) await handle.sendStdin(stdin)
  if (end) await handle.closeStdin()
}

async function talkToBackground(
  place: ToolSandbox,
  commandId: number,
  { stdin, endStdin, signal: sent, waitMs = DEFAULT_WAIT_MS }: Input,
  { signal }: ToolCall,
): Promise<ToolOutcome<Output>> {
  const background = await place.background()
  const held = await background.get(commandId)
  await feed(held, stdin, endStdin)
  if (sent !== undefined) await held.handle.kill(sent)
  return describe(held, await background.read(held, waitMs, signal))
}

async function describe(
  { handle }: HeldCommand,
  output: { stdout: string; stderr: string; truncated: boolean },
): Promise<ToolOutcome<Output>> {
  const { commandId, pid } = handle
  const running = handle.isRunning
  const { exitCode, signal, limit } = running ? { exitCode: null, signal: null, limit: null } : await handle.wait()
  const truncated = output.truncated || limit === 'outputBytes'
  return toOutcome({ ...output, truncated, commandId, pid, running, exitCode, signal, limit })
}

function toOutcome(full: Output): ToolOutcome<Output> {
  const stdout = shorten(full.stdout)
  const stderr = shorten(full.stderr)
  const truncated = full.truncated || stdout !== full.stdout || stderr !== full.stderr
  const { commandId, pid, running, exitCode, signal, limit } = full
  const data = { commandId, pid, running, exitCode, signal, limit, stdout, stderr, truncated }
  const end = signal !== null ? `ended by ${signal}` : `exit code ${exitCode}`
  const state = running ? 'running' : limit === null ? end : `${end}, beyond the sandbox's limit ${limit}`
  const head = commandId === null ? state : `command ${commandId} (pid ${pid}): ${state}`
  const note = truncated ? '\n(output was left out)' : ''
  return { text: head + note + renderStreams(data), data }
}

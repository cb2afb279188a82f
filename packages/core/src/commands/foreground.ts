import { Socket } from 'node:net'
import { closeSync } from 'node:fs'
import { constants } from 'node:os'
import { abortedError } from '../errors/abort.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import type { EngineClient, Reply } from '../protocol/engine-client.js'
import type { CommandExited } from '../protocol/gen/deltabox_pb.js'
import { BoundedText } from './bounded-text.js'
import { DEFAULT_MAX_OUTPUT_BYTES, type CommandResult, type ForegroundRunOptions } from './options.js'
import { rolledBackError, toResult, type CommandOutputs } from './result.js'

/** A child that was left behind may hold the pipes open; what it prints later is not the command's. */
const LEFTOVER_OUTPUT_MS = 200
/** SIGKILL ends a command at once; beyond this the engine is stuck, and its connection says so. */
const KILL_TIMEOUT_MS = 10_000

interface Started {
  readonly commandId: bigint
  readonly stdout: Socket
  readonly stderr: Socket
  readonly stdin: Socket | undefined
  readonly exited: Promise<CommandExited>
  readonly unsubscribe: () => void
}

/** What the engine needs to start a command. */
export interface StartFields {
  readonly argv: string[]
  readonly env: string[]
  readonly cwd: string
}

/** Runs a command to its end. */
export async function runForeground(
  client: EngineClient,
  start: StartFields,
  options: ForegroundRunOptions,
): Promise<CommandResult> {
  const { maxOutputBytes = DEFAULT_MAX_OUTPUT_BYTES, signal, timeoutMs, stdin } = options
  const outputs: CommandOutputs = {
    stdout: new BoundedText(maxOutputBytes, options.onStdout),
    stderr: new BoundedText(maxOutputBytes, options.onStderr),
  }
  const command = await client.request(
    { case: 'run', value: { ...start, background: false, openStdin: stdin !== undefined } },
    {
      expect: 'run',
      accept: (reply) => openStreams(client, reply, stdin !== undefined),
      signal,
      // Aborted while the engine was starting it: nobody waits for it any more.
      onLate: (late) => void endCommand(client, late).finally(() => closeStreams(late)),
    },
  )
  const release = client.hold()
  const limit = startLimit(timeoutMs, signal)
  try {
    const streamsEnded = Promise.all([collect(command.stdout, outputs.stdout), collect(command.stderr, outputs.stderr)])
    if (stdin !== undefined) command.stdin?.end(stdin)
    let exit = await Promise.race([command.exited, limit.reached])
    if (exit === undefined) exit = await endCommand(client, command)
    await Promise.race([streamsEnded, delay(LEFTOVER_OUTPUT_MS)])
    closeStreams(command)
    await streamsEnded
    return settle(toResult(outputs, exit, limit.cause() === 'timeout'), limit.cause(), timeoutMs, signal)
  } finally {
    limit.stop()
    closeStreams(command)
    command.unsubscribe()
    release()
  }
}

function settle(
  result: CommandResult,
  cause: 'timeout' | 'abort' | undefined,
  timeoutMs: number | undefined,
  signal: AbortSignal | undefined,
): CommandResult {
  if (cause === 'timeout') {
    throw new DeltaboxError('TIMEOUT', {
      message: `the command did not end within ${timeoutMs} ms and was killed`,
      nextStep: 'give it a larger timeoutMs, or run it in the background',
      data: result,
    })
  }
  if (cause === 'abort' && signal !== undefined) {
    const { message, nextStep, cause: reason } = abortedError(signal, 'the command')
    throw new DeltaboxError('ABORTED', { message, nextStep, cause: reason, data: result })
  }
  if (result.rolledBack) throw rolledBackError(result)
  return result
}

/** Takes the reply's descriptors and subscribes to the command's end. */
function openStreams(client: EngineClient, { value, fds }: Reply<'run'>, withStdin: boolean): Started {
  const [stdoutFd, stderrFd, stdinFd] = fds
  if (fds.length !== (withStdin ? 3 : 2) || stdoutFd === undefined || stderrFd === undefined) {
    for (const fd of fds) closeSync(fd)
    throw new DeltaboxError('PROTOCOL', {
      message: `the engine sent ${fds.length} descriptors for a command`,
      nextStep: 'use an engine and a client of the same version: rebuild with `npm run build`',
    })
  }
  let unsubscribe = (): void => undefined
  const exited = new Promise<CommandExited>((resolve, reject) => {
    unsubscribe = client.subscribe(value.commandId, { onExit: resolve, onLost: reject })
  })
  // Awaited later; a connection that ends before that must not be an unhandled rejection.
  exited.catch(() => undefined)
  const stdin = stdinFd === undefined ? undefined : new Socket({ fd: stdinFd, readable: false, writable: true })
  // A command may end or close its stdin without reading all of it.
  stdin?.on('error', () => undefined)
  return {
    commandId: value.commandId,
    stdout: new Socket({ fd: stdoutFd, readable: true, writable: false }),
    stderr: new Socket({ fd: stderrFd, readable: true, writable: false }),
    stdin,
    exited,
    unsubscribe,
  }
}

function closeStreams({ stdin, stdout, stderr }: Started): void {
  stdin?.destroy()
  stdout.destroy()
  stderr.destroy()
}

/** Resolves when the stream has ended or was destroyed. */
function collect(stream: Socket, into: BoundedText): Promise<void> {
  return new Promise((resolve) => {
    stream.on('data', (chunk: Buffer) => into.write(chunk))
    stream.on('error', () => undefined)
    stream.once('close', () => {
      into.end()
      resolve()
    })
  })
}

/** Kills the command and what it started; undefined when the engine did not tell its end in time. */
async function endCommand(client: EngineClient, command: Started): Promise<CommandExited | undefined> {
  const kill = client.request(
    { case: 'killCommand', value: { commandId: command.commandId, signal: constants.signals.SIGKILL } },
    { expect: 'empty', accept: () => undefined },
  )
  // It may have ended by itself meanwhile: then only its exit event matters.
  kill.catch(() => undefined)
  return Promise.race([command.exited, delay(KILL_TIMEOUT_MS)])
}

interface Limit {
  readonly reached: Promise<undefined>
  cause(): 'timeout' | 'abort' | undefined
  stop(): void
}

function startLimit(timeoutMs: number | undefined, signal: AbortSignal | undefined): Limit {
  let cause: 'timeout' | 'abort' | undefined
  let timer: NodeJS.Timeout | undefined
  let onAbort: (() => void) | undefined
  const reached = new Promise<undefined>((resolve) => {
    const reach = (why: 'timeout' | 'abort') => {
      cause ??= why
      resolve(undefined)
    }
    if (timeoutMs !== undefined) timer = setTimeout(reach, timeoutMs, 'timeout')
    onAbort = () => reach('abort')
    if (signal?.aborted === true) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
  })
  return {
    reached,
    cause: () => cause,
    stop: () => {
      clearTimeout(timer)
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort)
    },
  }
}

function delay(durationMs: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(resolve, durationMs, undefined).unref())
}

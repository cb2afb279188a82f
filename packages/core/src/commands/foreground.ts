import { Socket } from 'node:net'
import { closeSync } from 'node:fs'
import { constants } from 'node:os'
import { abortedError } from '../errors/abort.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import type { EngineClient, Reply } from '../protocol/engine-client.js'
import type { CommandExited } from '../protocol/gen/deltabox_pb.js'
import { BoundedText } from './bounded-text.js'
import { pumpStdin } from './stdin.js'
import { DEFAULT_MAX_OUTPUT_BYTES, type CommandResult, type ForegroundRunOptions } from './options.js'
import { rolledBackError, toResult, type CommandOutputs } from './result.js'

/** A child that was left behind may hold the pipes open; what it prints later is not the command's. */
const LEFTOVER_OUTPUT_MS = 200
const LEFTOVER_LOOK_MS = 20
/** SIGKILL ends a command at once; beyond this the engine is stuck, and its connection says so. */
const KILL_TIMEOUT_MS = 10_000

interface Started {
  readonly commandId: bigint
  readonly pid: number
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
  readonly user: string
}

/** Runs a command to its end. */
export async function runForeground(
  client: EngineClient,
  start: StartFields,
  options: ForegroundRunOptions,
  outputLimitBytes: number,
): Promise<CommandResult> {
  const { maxOutputBytes = DEFAULT_MAX_OUTPUT_BYTES, signal, timeoutMs, stdin } = options
  const outputs: CommandOutputs = {
    stdout: new BoundedText(maxOutputBytes, options.onStdout, options.onStdoutBytes),
    stderr: new BoundedText(maxOutputBytes, options.onStderr, options.onStderrBytes),
  }
  const command = await client.request(
    { case: 'run', value: { ...start, background: false, openStdin: stdin !== undefined } },
    {
      expect: 'run',
      accept: (reply) => openStreams(client, reply, stdin !== undefined),
      signal,
      expectedGeneration: options.expectedGeneration,
      // Aborted while the engine was starting it: nobody waits for it any more.
      onLate: (late) => void endCommand(client, late).finally(() => closeStreams(late)),
    },
  )
  options.onStarted?.({ commandId: Number(command.commandId), pid: command.pid })
  const release = client.hold()
  const limit = startLimit(timeoutMs, signal)
  try {
    const budget = new OutputBudget(outputLimitBytes, () => limit.reachOutput())
    const collectors = [
      new Collector(command.stdout, outputs.stdout, budget),
      new Collector(command.stderr, outputs.stderr, budget),
    ]
    const streamsEnded = Promise.all(collectors.map(({ ended }) => ended))
    if (stdin !== undefined && command.stdin !== undefined) {
      pumpStdin(stdin, command.stdin, command.exited).catch((error: unknown) => limit.fail(error))
    }
    let exit = await Promise.race([command.exited, limit.reached])
    if (exit === undefined) exit = await endCommand(client, command, limit.cause() === 'output')
    await untilRead(collectors, streamsEnded)
    closeStreams(command)
    await streamsEnded
    const result = toResult(outputs, exit, limit.cause() === 'timeout', budget.isSpent ? 'outputBytes' : null)
    if (limit.cause() === 'stdin') throw stdinError(limit.failure(), result)
    return settle(result, limit.cause(), timeoutMs, signal)
  } finally {
    limit.stop()
    closeStreams(command)
    command.unsubscribe()
    release()
  }
}

function stdinError(cause: unknown, result: CommandResult): DeltaboxError<'ABORTED'> {
  return new DeltaboxError('ABORTED', {
    message: `the source of the command’s stdin failed: ${cause instanceof Error ? cause.message : String(cause)}`,
    nextStep: 'give a source that can be read',
    data: result,
    cause,
  })
}

function settle(
  result: CommandResult,
  cause: LimitCause | undefined,
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
    pid: value.pid,
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

/** What a command may still print, over both streams. What is beyond it is read and dropped. */
class OutputBudget {
  isSpent = false
  #leftBytes: number
  readonly #onSpent: () => void

  constructor(bytes: number, onSpent: () => void) {
    this.#leftBytes = bytes
    this.#onSpent = onSpent
  }

  take(chunk: Buffer): Buffer {
    const taken = chunk.subarray(0, Math.min(chunk.length, this.#leftBytes))
    this.#leftBytes -= taken.length
    if (taken.length < chunk.length && !this.isSpent) {
      this.isSpent = true
      this.#onSpent()
    }
    return taken
  }
}

/** Reads one stream to its end, as fast as its reader takes it. */
class Collector {
  /** Resolves when the stream has ended or was destroyed, and its reader has taken all. */
  readonly ended: Promise<void>
  /** Whether the reader holds it back. */
  isHeldBack = false

  constructor(stream: Socket, into: BoundedText, budget: OutputBudget) {
    let last: Promise<void> | undefined
    this.ended = new Promise((resolve) => {
      stream.on('data', (chunk: Buffer) => {
        const allowed = budget.take(chunk)
        const taken = allowed.length === 0 ? undefined : into.write(allowed)
        if (taken === undefined) return
        this.isHeldBack = true
        stream.pause()
        const goOn = () => {
          this.isHeldBack = false
          stream.resume()
        }
        last = taken.then(goOn, goOn)
      })
      stream.on('error', () => undefined)
      stream.once('close', () => {
        into.end()
        resolve(last)
      })
    })
  }
}

/** After the command's end: until its streams have ended too, or what was in them had its time to be read. */
async function untilRead(collectors: readonly Collector[], streamsEnded: Promise<unknown>): Promise<void> {
  let ended = false
  void streamsEnded.then(() => (ended = true))
  for (let leftMs = LEFTOVER_OUTPUT_MS; leftMs > 0 && !ended;) {
    await Promise.race([streamsEnded, delay(LEFTOVER_LOOK_MS)])
    if (!collectors.some(({ isHeldBack }) => isHeldBack)) leftMs -= LEFTOVER_LOOK_MS
  }
}

/** Kills the command and what it started; undefined when the engine did not tell its end in time. */
async function endCommand(
  client: EngineClient,
  command: Started,
  outputLimit = false,
): Promise<CommandExited | undefined> {
  const kill = client.request(
    { case: 'killCommand', value: { commandId: command.commandId, signal: constants.signals.SIGKILL, outputLimit } },
    { expect: 'empty', accept: () => undefined },
  )
  // It may have ended by itself meanwhile: then only its exit event matters.
  kill.catch(() => undefined)
  return Promise.race([command.exited, delay(KILL_TIMEOUT_MS)])
}

type LimitCause = 'timeout' | 'abort' | 'stdin' | 'output'

interface Limit {
  readonly reached: Promise<undefined>
  cause(): LimitCause | undefined
  /** It printed more than the sandbox lets it. */
  reachOutput(): void
  /** The source of the command's stdin failed. */
  fail(error: unknown): void
  failure(): unknown
  stop(): void
}

function startLimit(timeoutMs: number | undefined, signal: AbortSignal | undefined): Limit {
  let cause: LimitCause | undefined
  let failure: unknown
  let fail: (error: unknown) => void = () => undefined
  let reachOutput: () => void = () => undefined
  let timer: NodeJS.Timeout | undefined
  let onAbort: (() => void) | undefined
  const reached = new Promise<undefined>((resolve) => {
    const reach = (why: LimitCause) => {
      cause ??= why
      resolve(undefined)
    }
    reachOutput = () => reach('output')
    fail = (error) => {
      failure = error
      reach('stdin')
    }
    if (timeoutMs !== undefined) timer = setTimeout(reach, timeoutMs, 'timeout')
    onAbort = () => reach('abort')
    if (signal?.aborted === true) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
  })
  return {
    reached,
    cause: () => cause,
    reachOutput: () => reachOutput(),
    fail: (error) => fail(error),
    failure: () => failure,
    stop: () => {
      clearTimeout(timer)
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort)
    },
  }
}

function delay(durationMs: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(resolve, durationMs, undefined).unref())
}

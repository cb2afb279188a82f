import { closeSync } from 'node:fs'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { abortedError, throwIfAborted } from '../errors/abort.js'
import { errnoName, fromSystemError } from '../errors/convert.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { toError } from './failure.js'
import type { CommandExited, CommandOutput, EngineFrame, FileEvent, RolledBack, WatchEnded } from './gen/deltabox_pb.js'
import { ClientFrameSchema, EngineFrameSchema } from './gen/deltabox_pb.js'
import { native, type Addon, type Channel } from './native.js'

type EngineBody = EngineFrame['body']
type EventCase = 'commandExited' | 'commandOutput' | 'rolledBack' | 'fileEvent' | 'watchEnded'
type ReplyCase = Exclude<EngineBody['case'], undefined | 'failure' | EventCase>
/** A request as a plain object: which, and its fields. */
export type EngineRequest = NonNullable<Parameters<typeof create<typeof ClientFrameSchema>>[1]>['request']

/** A reply: the message that was expected, and the descriptors beside it, which the receiver owns. */
export interface Reply<Case extends ReplyCase> {
  readonly value: Extract<EngineBody, { case: Case }>['value']
  readonly fds: number[]
}

/** What a command's events are delivered to. */
export interface CommandListener {
  onOutput?(output: CommandOutput): void
  onExit(exit: CommandExited): void
  /** The connection ended; no further event comes. */
  onLost(error: DeltaboxError): void
}

/** What the events of a watched directory are delivered to. */
export interface WatchListener {
  onEvent(event: FileEvent): void
  onEnded(event: WatchEnded): void
  /** The connection ended; no further event comes. */
  onLost(error: DeltaboxError): void
}

/** How to make one request. */
export interface RequestOptions<Case extends ReplyCase, Result> {
  readonly expect: Case
  /** Runs before any later frame is looked at, so that a subscription misses no event. */
  readonly accept: (reply: Reply<Case>) => Result
  /** Ends the waiting; `accept` still runs when the reply comes later, its result goes to `onLate`. */
  readonly signal?: AbortSignal | undefined
  readonly onLate?: (result: Result) => void
  readonly fds?: readonly number[]
  /** Refused with STALE_GENERATION when a rollback happened since. @default any generation */
  readonly expectedGeneration?: number | undefined
  /** The engine answers a second request with this key with the answer of the first. */
  readonly idempotencyKey?: string | undefined
}

const HUNG_UP: ReadonlySet<string> = new Set(['EPIPE', 'ECONNRESET'])

interface Pending {
  settle(body: EngineBody, fds: number[]): void
  fail(error: DeltaboxError): void
}

/**
 * One connection to an engine.
 *
 * States: open -> closed, once: by `close()`, or when the engine ends the stream. Then everything that waits is
 * rejected with ENGINE_LOST. While nothing waits the connection does not keep the process alive.
 */
export class EngineClient {
  readonly #channel: Channel
  readonly #addon: Addon
  readonly #pending = new Map<bigint, Pending>()
  readonly #commands = new Map<bigint, Set<CommandListener>>()
  readonly #watches = new Map<bigint, WatchListener>()
  readonly #rollbackListeners = new Set<(event: RolledBack) => void>()
  readonly #closed: Promise<void>
  #resolveClosed!: () => void
  #nextRequestId = 1n
  #generation = 0n
  #holds = 0
  #lost: DeltaboxError | undefined

  /** Takes over the descriptor of a connected socket. */
  constructor(fd: number, addon: Addon = native().addon) {
    this.#addon = addon
    this.#closed = new Promise((resolve) => (this.#resolveClosed = resolve))
    this.#channel = new addon.Channel(
      fd,
      (payload, fds) => this.#receive(payload, fds),
      (error) => this.#end(error ?? 'the engine closed it'),
    )
    this.#channel.unref()
  }

  /** The generation that the last frame carried; a rollback increments it. */
  get generation(): bigint {
    return this.#generation
  }

  get isOpen(): boolean {
    return this.#lost === undefined
  }

  /** Resolves when the connection has ended, whoever ended it. */
  get closed(): Promise<void> {
    return this.#closed
  }

  /** An anonymous file in memory to send with a request; the caller closes it. */
  createMemfd(data: Uint8Array): number {
    return this.#addon.createMemfd(data)
  }

  /** Keeps the process alive until the returned function is called (idempotent). */
  hold(): () => void {
    if (this.#holds++ === 0) this.#channel.ref()
    let held = true
    return () => {
      if (!held) return
      held = false
      if (--this.#holds === 0) this.#channel.unref()
    }
  }

  /**
   * Sends a request and waits for its reply.
   * @throws what the engine answered; ENGINE_LOST; ABORTED; PROTOCOL for a reply of another kind.
   */
  async request<Case extends ReplyCase, Result>(
    request: EngineRequest,
    options: RequestOptions<Case, Result>,
  ): Promise<Result> {
    const { expect, accept, signal, onLate } = options
    const what = request?.case ?? 'request'
    throwIfAborted(signal, what)
    if (this.#lost !== undefined) throw this.#lost
    const requestId = this.#nextRequestId++
    const release = this.hold()
    let onAbort: (() => void) | undefined
    try {
      return await new Promise<Result>((resolve, reject) => {
        let abandoned = false
        this.#pending.set(requestId, {
          settle: (body, fds) => {
            try {
              const result = acceptReply(body, fds, expect, accept)
              if (abandoned) onLate?.(result)
              else resolve(result)
            } catch (error) {
              reject(fromSystemError(error, what))
            }
          },
          fail: reject,
        })
        onAbort = () => {
          abandoned = true
          if (signal !== undefined) reject(abortedError(signal, what))
        }
        signal?.addEventListener('abort', onAbort, { once: true })
        const frame = create(ClientFrameSchema, {
          requestId,
          expectedGeneration: BigInt(options.expectedGeneration ?? 0),
          idempotencyKey: options.idempotencyKey ?? '',
          ...(request === undefined ? {} : { request }),
        })
        try {
          this.#channel.send(toBinary(ClientFrameSchema, frame), options.fds ?? [])
        } catch (error) {
          // The engine has hung up: why is in what it sent before, and comes with the connection's end.
          if (HUNG_UP.has(errnoName(error) ?? '')) return
          this.#pending.delete(requestId)
          reject(fromSystemError(error, `sending ${what}`))
        }
      })
    } finally {
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort)
      release()
    }
  }

  /** Delivers a command's events until the returned function is called. */
  subscribe(commandId: bigint, listener: CommandListener): () => void {
    if (this.#lost !== undefined) {
      listener.onLost(this.#lost)
      return () => undefined
    }
    const listeners = this.#commands.get(commandId) ?? new Set()
    this.#commands.set(commandId, listeners.add(listener))
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0 && this.#commands.get(commandId) === listeners) this.#commands.delete(commandId)
    }
  }

  /** Delivers the events of a watch until the returned function is called. */
  subscribeWatch(watchId: bigint, listener: WatchListener): () => void {
    this.#watches.set(watchId, listener)
    return () => this.#watches.delete(watchId)
  }

  /** Calls back after each rollback of the sandbox, whoever asked for it, until the returned function is called. */
  onRolledBack(listener: (event: RolledBack) => void): () => void {
    this.#rollbackListeners.add(listener)
    return () => this.#rollbackListeners.delete(listener)
  }

  /** Ends the connection; the engine goes on. Idempotent. */
  close(): void {
    this.#channel.close()
    this.#end('it was closed')
  }

  #receive(payload: Uint8Array, fds: number[]): void {
    let frame: EngineFrame
    try {
      frame = fromBinary(EngineFrameSchema, payload)
    } catch {
      closeAll(fds)
      this.#channel.close()
      this.#end('a frame could not be decoded')
      return
    }
    if (frame.generation !== 0n) this.#generation = frame.generation
    if (frame.requestId === 0n) {
      closeAll(fds)
      if (frame.body.case === 'failure') {
        // The engine does not take this connection.
        this.#channel.close()
        this.#lose(toError(frame.body.value))
        return
      }
      this.#dispatchEvent(frame.body)
      return
    }
    const pending = this.#pending.get(frame.requestId)
    this.#pending.delete(frame.requestId)
    if (pending === undefined) closeAll(fds)
    else pending.settle(frame.body, fds)
  }

  #dispatchEvent(body: EngineBody): void {
    switch (body.case) {
      case 'commandOutput':
        for (const listener of this.#commands.get(body.value.commandId) ?? []) listener.onOutput?.(body.value)
        break
      case 'commandExited':
        for (const listener of [...(this.#commands.get(body.value.commandId) ?? [])]) listener.onExit(body.value)
        break
      case 'rolledBack':
        for (const listener of [...this.#rollbackListeners]) listener(body.value)
        break
      case 'fileEvent':
        this.#watches.get(body.value.watchId)?.onEvent(body.value)
        break
      case 'watchEnded':
        this.#watches.get(body.value.watchId)?.onEnded(body.value)
        break
      default:
        // An engine that is newer may send events that we do not know.
        break
    }
  }

  #end(why: string): void {
    this.#lose(
      new DeltaboxError('ENGINE_LOST', {
        message: `the connection to the sandbox’s engine ended: ${why}`,
        nextStep: 'run `deltabox ls` to see whether the sandbox still runs, and connect to it again',
      }),
    )
  }

  #lose(error: DeltaboxError): void {
    if (this.#lost !== undefined) return
    this.#lost = error
    for (const pending of this.#pending.values()) pending.fail(error)
    this.#pending.clear()
    for (const listeners of this.#commands.values()) for (const listener of [...listeners]) listener.onLost(error)
    this.#commands.clear()
    for (const watch of [...this.#watches.values()]) watch.onLost(error)
    this.#watches.clear()
    this.#rollbackListeners.clear()
    this.#resolveClosed()
  }
}

function acceptReply<Case extends ReplyCase, Result>(
  body: EngineBody,
  fds: number[],
  expect: Case,
  accept: (reply: Reply<Case>) => Result,
): Result {
  if (body.case === expect) {
    return accept({ value: body.value as Reply<Case>['value'], fds })
  }
  closeAll(fds)
  if (body.case === 'failure') throw toError(body.value)
  throw new DeltaboxError('PROTOCOL', {
    message: `the engine answered with ${body.case ?? 'nothing'} where ${expect} was expected`,
    nextStep: 'use an engine and a client of the same version: rebuild with `npm run build`',
  })
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd)
}

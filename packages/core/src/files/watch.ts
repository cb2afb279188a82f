import { DeltaboxError } from '../errors/deltabox-error.js'
import type { EngineClient } from '../protocol/engine-client.js'
import { FileEvent_Type, type FileEvent } from '../protocol/gen/deltabox_pb.js'
import { isExactText, toText } from './paths.js'

/** What happened in a watched directory. */
export interface WatchEvent {
  /**
   * - "create": the name is new, by a rename perhaps.
   * - "write": the contents changed.
   * - "remove": the name is gone. "rename": it is gone by a rename.
   * - "chmod": mode, owner or times changed.
   * - "rolledBack": a rollback came; anything may have changed, and `name` is empty.
   * - "overflow": more happened than could be told, and events were lost; `name` is empty.
   */
  readonly type: 'create' | 'write' | 'remove' | 'rename' | 'chmod' | 'rolledBack' | 'overflow'
  /** Relative to the watched directory; what is no UTF-8 in it is shown as U+FFFD. */
  readonly name: string
  /** The exact name, only where `name` is not exact. */
  readonly rawName?: Uint8Array
}

const TYPES: Readonly<Record<FileEvent_Type, WatchEvent['type']>> = {
  [FileEvent_Type.CREATED]: 'create',
  [FileEvent_Type.WRITTEN]: 'write',
  [FileEvent_Type.REMOVED]: 'remove',
  [FileEvent_Type.RENAMED]: 'rename',
  [FileEvent_Type.CHANGED_MODE]: 'chmod',
  [FileEvent_Type.ROLLED_BACK]: 'rolledBack',
  [FileEvent_Type.OVERFLOWED]: 'overflow',
}

/** What a watch tells its owner. */
export interface WatchCallbacks {
  readonly onEvent: (event: WatchEvent) => void
  readonly onEnd?: ((reason: Error | undefined) => void) | undefined
}

/** A directory that is watched, until `stop()`, the end of the directory or of the connection. */
export class WatchHandle {
  readonly #client: EngineClient
  readonly #watchId: bigint
  readonly #callbacks: WatchCallbacks
  readonly #unsubscribe: () => void
  #ended = false

  /** @internal While accepting the reply: no event is missed. */
  constructor(client: EngineClient, watchId: bigint, callbacks: WatchCallbacks) {
    this.#client = client
    this.#watchId = watchId
    this.#callbacks = callbacks
    this.#unsubscribe = client.subscribeWatch(watchId, {
      onEvent: (event) => callbacks.onEvent(toWatchEvent(event)),
      onEnded: ({ reason }) =>
        this.#end(
          new DeltaboxError('NOT_FOUND', {
            message: `the watch ended: ${reason}`,
            nextStep: 'watch again where the directory is now',
          }),
        ),
      onLost: (error) => this.#end(error),
    })
  }

  /** Ends the watch. Idempotent. */
  async stop(): Promise<void> {
    if (this.#ended) return
    this.#end(undefined)
    await this.#client.request(
      { case: 'unwatch', value: { watchId: this.#watchId } },
      { expect: 'empty', accept: () => undefined },
    )
  }

  #end(reason: Error | undefined): void {
    if (this.#ended) return
    this.#ended = true
    this.#unsubscribe()
    this.#callbacks.onEnd?.(reason)
  }
}

function toWatchEvent({ type, name }: FileEvent): WatchEvent {
  return {
    type: TYPES[type],
    name: toText(name),
    ...(isExactText(name) ? {} : { rawName: Uint8Array.from(name) }),
  }
}

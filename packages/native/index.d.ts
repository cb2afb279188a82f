/** One connection to an engine: whole frames in, whole frames out, descriptors beside them. */
export interface Channel {
  /**
   * Sends one frame without blocking; what the socket does not take at once leaves from a writer thread.
   * The descriptors are duplicated before this returns: the caller still owns its own.
   * @throws an error with code `EPIPE` when closed, `EMSGSIZE` beyond 16 MiB or 16 descriptors, `ENOBUFS` when
   * more than 64 MiB are waiting to be sent.
   */
  send(payload: Uint8Array, fds?: readonly number[]): void
  /** Ends the connection. No callback runs afterwards. Idempotent. */
  close(): void
  /** Lets the connection keep Node's event loop alive (the default). */
  ref(): void
  /** Lets Node's event loop end although the connection is open. */
  unref(): void
}

/** What the Node-API module exports. Errors of system calls carry the errno's name as `code`. */
export interface Addon {
  /**
   * Starts an engine and returns our end of its control socket.
   * @param logPath file to which the engine's stdout and stderr are appended; created with mode 0600
   */
  spawnEngine(enginePath: string, args: readonly string[], logPath: string): number
  /** Connects to `engine.sock` in a sandbox's state directory; works with paths longer than a socket address. */
  connectEngine(sandboxDir: string): number
  /** Makes an anonymous file in memory with these contents. The caller closes the descriptor. */
  createMemfd(data: Uint8Array): number
  Channel: new (
    fd: number,
    onFrame: (payload: Buffer, fds: number[]) => void,
    onClose: (error?: string) => void,
  ) => Channel
}

/** The addon and the path of the engine's executable. */
export interface Native {
  readonly addon: Addon
  readonly enginePath: string
}

/**
 * Loads the addon from `build/release`, or from $DELTABOX_NATIVE_DIR.
 * @throws an error with code `UNSUPPORTED_PLATFORM` and a `nextStep`.
 */
export function loadNative(): Native

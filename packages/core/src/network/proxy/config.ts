/** What the proxy is told on its command line, as JSON. */
export interface ProxyConfig {
  /** Entries of the allow list, checked by the option's schema. */
  readonly allow: readonly string[]
  /** User and group to become before the first connection; only root can. */
  readonly dropToId?: number
}

/** Descriptors that the engine's launcher leaves to the proxy. */
export const LISTENER_FD = 3
export const CONTROL_FD = 4
/** Then one listener for each port of each of `directHosts(allow)`. */
export const FIRST_DIRECT_FD = 5

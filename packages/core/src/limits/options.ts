import { z } from 'zod'

/** Schema of the option `limits` of {@link Sandbox.create}. */
export const limitsSchema = z.strictObject({
  memoryBytes: z.int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
  cpus: z.number().positive().max(65_536).optional(),
  processes: z.int().min(1).max(4_194_304).optional(),
  openFiles: z.int().min(1).max(1_073_741_816).optional(),
  diskBytes: z.int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
  outputBytes: z.int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
})

/**
 * What the tasks of a sandbox may use at most, together. A limit that this machine cannot keep for this user is refused
 * with UNSUPPORTED; none is ignored.
 */
export interface Limits {
  /**
   * Memory with page cache and swap; beyond it the kernel ends a process inside. Needs a control group that the caller
   * may write: root's as a rule.
   */
  readonly memoryBytes?: number
  /** Processors' worth of time, for example 0.5. Needs a control group, as `memoryBytes` does. */
  readonly cpus?: number
  /** Processes and threads; beyond it `fork` answers EAGAIN. */
  readonly processes?: number
  /** Open descriptors of each process; beyond it `open` answers EMFILE. */
  readonly openFiles?: number
  /**
   * What all layers of the sandbox may take on the disk, those of checkpoints included; no file grows beyond it at any
   * time. It is measured about once a second while processes run. Beyond it all processes are ended by SIGKILL (the
   * results of their commands have `limit: "diskBytes"`), and commands, checkpoints and writes throw NO_SPACE until
   * files or checkpoints were removed, or the sandbox was rolled back with `redo: false`.
   */
  readonly diskBytes?: number
  /**
   * What each command or terminal may print over its life, stdout and stderr together. The bytes up to it arrive; with
   * the first one beyond it the command is ended by SIGKILL, and its result has `limit: "outputBytes"`.
   */
  readonly outputBytes?: number
}

/** A limit of the sandbox for which a command is ended. */
export type CommandLimit = 'outputBytes' | 'diskBytes'

/** As the engine names it. */
export function toCommandLimit(text: string): CommandLimit | null {
  return text === 'outputBytes' || text === 'diskBytes' ? text : null
}

import { z } from 'zod'
import { idempotencyKeySchema } from '../commands/options.js'
import { limitsSchema, type Limits } from '../limits/options.js'
import { networkSchema, type NetworkOption } from '../network/options.js'

const hostPath = z
  .string()
  .min(1, 'is empty')
  .refine((path) => !path.includes('\0'), 'contains a NUL byte')
const mountPoint = z
  .string()
  .regex(/^\/[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/, 'must be an absolute path of plain names')
  .refine((path) => !path.split('/').some((part) => part === '.' || part === '..'), 'must not contain . or ..')

/** More than anybody names by hand; the engine has the same bound. */
const MAX_VOLUMES = 16

const volumeSchema = z
  .strictObject({ path: mountPoint, from: hostPath.optional(), mode: z.enum(['cow', 'ro']).default('cow') })
  .refine(({ from, mode }) => mode === 'cow' || from !== undefined, 'mode "ro" needs `from`')

/** Options of {@link Sandbox.create}; the one source of their checks and defaults. */
export const createOptionsSchema = z.strictObject({
  workspace: hostPath.default('.'),
  workspaceMount: mountPoint.default('/workspace'),
  rootfs: hostPath.default('host'),
  volumes: z.array(volumeSchema).max(MAX_VOLUMES).default([]),
  network: networkSchema.default('none'),
  limits: limitsSchema.default({}),
  idleTimeoutMs: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  orphanTimeoutMs: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  retention: z
    .strictObject({
      keepLast: z.int().min(1).max(1_000_000).optional(),
      keepNamed: z.boolean().default(true),
      maxBytes: z.int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
      hotBytes: z.int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
    })
    .default({ keepNamed: true }),
  durability: z.enum(['files', 'processes']).default('files'),
  metadata: z.record(z.string().min(1).max(200), z.string().max(4096)).default({}),
  signal: z.instanceof(AbortSignal).optional(),
})

/** A directory inside of its own, beside the workspace. */
export interface VolumeOption {
  /** Where it appears inside; not in another volume and not in a system directory. */
  readonly path: string
  /** Directory of the host that it begins with; the host's files never change. @default empty */
  readonly from?: string
  /** "cow": writable, and rolled back; "ro": the host's directory or file as it is, read-only. @default "cow" */
  readonly mode?: 'cow' | 'ro'
}

/** Which checkpoints a sandbox keeps; the others are deleted, oldest first. The head always stays. */
export interface Retention {
  /** At most this many. @default all */
  readonly keepLast?: number
  /** Named checkpoints stay whatever the bounds say. @default true */
  readonly keepNamed?: boolean
  /** At most this many bytes of the checkpoints' own layers and pages. @default no bound */
  readonly maxBytes?: number
  /**
   * At most this many bytes of memory for the pages of checkpoints. Beyond it the least recently used ones go cold: to
   * the disk, from where a rollback reads them again. The head stays. @default no bound
   */
  readonly hotBytes?: number
}

/** How to make a sandbox. */
export interface CreateSandboxOptions {
  /** Directory of the host that the sandbox sees as its workspace; the host's files never change. @default "." */
  readonly workspace?: string
  /** Where it appears inside. @default "/workspace" */
  readonly workspaceMount?: string
  /**
   * "host": the host's programs and an allow-list of its /etc; where root starts the sandbox they are writable and rolled
   * back (`apt-get install` works), otherwise read-only. Else the directory of an unpacked image: all of it is visible,
   * writable and rolled back. Neither the host nor the image ever changes. @default "host"
   */
  readonly rootfs?: string
  /** Further directories inside, at most 16. @default [] */
  readonly volumes?: readonly VolumeOption[]
  /** What the sandbox reaches beyond its own loopback. @default "none" */
  readonly network?: NetworkOption
  /** What the sandbox may use at most. @default no limits */
  readonly limits?: Limits
  /** The engine ends the sandbox after this long without a client or a running command; 0: never. @default 0 */
  readonly idleTimeoutMs?: number
  /**
   * The engine ends the sandbox this long after its last client left, whatever runs in it; 0: never. For sandboxes that
   * are of no use without the process that made them. @default 0
   */
  readonly orphanTimeoutMs?: number
  /** Which checkpoints are kept. @default all */
  readonly retention?: Retention
  /**
   * What of a checkpoint is safe against the end of its engine. "files"; or "processes" as well: what changed of their
   * memory is written to the disk behind each checkpoint, and `connect` brings files and processes of the last one
   * back when the engine has ended. @default "files"
   */
  readonly durability?: 'files' | 'processes'
  /** Your own labels; listed, never interpreted, but `name` is shown by `deltabox ls`. */
  readonly metadata?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

const checkpointName = z
  .string()
  .min(1, 'is empty')
  .refine((name) => Buffer.byteLength(name) <= 64, 'is longer than 64 bytes')
  .regex(
    /^[\p{L}\p{N}][\p{L}\p{N}._ -]*$/u,
    'must begin with a letter or digit and hold only letters, digits, . _ - and spaces',
  )

/** Options of {@link Sandbox.checkpoint}. */
export const checkpointOptionsSchema = z.strictObject({
  name: checkpointName.optional(),
  metadata: z.record(z.string().min(1).max(200), z.string().max(4096)).optional(),
  strict: z.boolean().optional(),
  pinned: z.boolean().optional(),
  expectedGeneration: z.int().min(1).optional(),
  idempotencyKey: idempotencyKeySchema.optional(),
  signal: z.instanceof(AbortSignal).optional(),
})

/** How to take a checkpoint. */
export interface CheckpointOptions {
  /** A name to roll back to, unique in the sandbox. */
  readonly name?: string
  readonly metadata?: Readonly<Record<string, string>>
  /** Throw STRICT, and take no checkpoint, if something cannot be captured. @default false */
  readonly strict?: boolean
  /** As {@link Sandbox.pin} does. @default false */
  readonly pinned?: boolean
  /** Refuse the call with STALE_GENERATION when `sandbox.generation` is another by now. @default any */
  readonly expectedGeneration?: number
  /** A second call with the same key is answered with the answer of the first; of the last 256 such calls. */
  readonly idempotencyKey?: string
  /** Ends the waiting; the engine may still complete the checkpoint. */
  readonly signal?: AbortSignal
}

/** Options of {@link Sandbox.rollback}. */
export const rollbackOptionsSchema = z.strictObject({
  redo: z.boolean().optional(),
  strict: z.boolean().optional(),
  expectedGeneration: z.int().min(1).optional(),
  idempotencyKey: idempotencyKeySchema.optional(),
  signal: z.instanceof(AbortSignal).optional(),
})

/** How to roll back. */
export interface RollbackOptions {
  /** Take a safety checkpoint first, so that the rollback can be undone. @default true */
  readonly redo?: boolean
  /**
   * Throw STRICT if something cannot be restored: before anything changes where planning shows it, and after the
   * rollback for what only shows while it is carried out. @default false
   */
  readonly strict?: boolean
  /** Refuse the call with STALE_GENERATION when `sandbox.generation` is another by now. @default any */
  readonly expectedGeneration?: number
  /** A second call with the same key is answered with the answer of the first; of the last 256 such calls. */
  readonly idempotencyKey?: string
  /** Ends the waiting; the engine still completes the rollback. */
  readonly signal?: AbortSignal
}

/** A sandbox as its engine describes it. */
export interface SandboxInfo {
  readonly id: string
  /** Directory of the host. */
  readonly workspace: string
  readonly workspaceMount: string
  /** Unix time in milliseconds. */
  readonly createdAtMs: number
  /** On the host. */
  readonly enginePid: number
  /** Host pid of the sandbox's pid 1. */
  readonly initPid: number
  /** The checkpoint from which the live state derives; null before the first. */
  readonly head: string | null
  readonly checkpoints: number
  /** Live processes inside, pid 1 not counted. */
  readonly tasks: number
  readonly pageStoreBytes: number
  /** What this machine could not offer at creation. */
  readonly warnings: readonly string[]
  readonly metadata: Readonly<Record<string, string>>
  /** 0: none. */
  readonly idleTimeoutMs: number
  /** 0: none. */
  readonly orphanTimeoutMs: number
  readonly network: NetworkOption
  readonly limits: Limits
  /** As the control group counts them, page cache included; null without a memory limit. */
  readonly memoryBytes: number | null
}

/** What a sandbox and its engine use at the moment. Sizes in bytes. */
export interface SandboxMetrics {
  /** Processor time of all processes, ended ones included, in microseconds; in steps of 10,000. */
  readonly cpuUs: number
  /** Anonymous memory of all processes; what a fork shares counts for each. */
  readonly memoryBytes: number
  /** Live processes inside, pid 1 not counted. */
  readonly tasks: number
  readonly threads: number
  /** What the sandbox takes on the disk of its state directory: layers, and the processes of checkpoints. */
  readonly diskBytes: number
  /** Whether there are more files than were counted (50,000). */
  readonly diskIsLowerBound: boolean
  /** Memory of the checkpoints' pages; part of `engine.rssBytes`. */
  readonly pageStoreBytes: number
  readonly checkpoints: number
  /** Of these, those whose processes are on the disk only. */
  readonly coldCheckpoints: number
  /** The bound that `setHotBudget` gave all sandboxes of the state directory together; null: none. */
  readonly hotBoundBytes: number | null
  /** Of the checkpoints of all these sandboxes, in memory. */
  readonly hotTotalBytes: number
  readonly clients: number
  readonly runningCommands: number
  /** Since the engine was started, in milliseconds. */
  readonly uptimeMs: number
  readonly engine: {
    readonly rssBytes: number
    readonly cpuUs: number
    readonly openFds: number
  }
}

/** A sandbox as {@link Sandbox.list} finds it on disk. */
export interface SandboxListEntry {
  readonly id: string
  /**
   * "creating": somebody is making it. "dead": its files exist, its engine does not run; `Sandbox.kill(id)` removes it.
   */
  readonly state: 'creating' | 'running' | 'dead'
  /** Null while it is created, and when the record of a dead sandbox is damaged. */
  readonly workspace: string | null
  readonly createdAtMs: number | null
  readonly metadata: Readonly<Record<string, string>>
}

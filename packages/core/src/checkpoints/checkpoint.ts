import type { Notice } from '../errors/deltabox-error.js'

/** Where the pause went, in microseconds. */
export interface PauseParts {
  readonly freezeUs: number
  /** Registers, mappings, signals, descriptors. */
  readonly describeUs: number
  readonly scanUs: number
  readonly copyUs: number
  readonly switchUs: number
  readonly reopenUs: number
  /** Rollback only. */
  readonly applyUs: number
  readonly thawUs: number
}

/** An immutable node: the state of the files and of the processes, as one pair. */
export interface Checkpoint {
  readonly id: string
  /** The checkpoint from which the live state derived; null for the first. */
  readonly parent: string | null
  readonly name: string | null
  readonly metadata: Readonly<Record<string, string>>
  /** Unix time in milliseconds. */
  readonly createdAtMs: number
  /** How long the sandbox's tasks stood still. */
  readonly pauseMs: number
  readonly parts: PauseParts
  /** Pages written since the parent; all there are where memory is compared (`getInfo().warnings` says so). */
  readonly dirtyPages: number
  /**
   * Of the dirty pages, those copied after the pause: a process that wrote 16 MiB or more is forked in the pause, and
   * what its copy holds is read while it goes on. The call returns when that is done.
   */
  readonly parkedPages: number
  /** All pages of the checkpoint's processes, those shared with other checkpoints included. */
  readonly totalPages: number
  /** Bytes of pages stored for this checkpoint alone. */
  readonly copiedBytes: number
  readonly layerBytes: number
  readonly changedFiles: number
  readonly changedVolumes: number
  readonly processes: number
  readonly threads: number
  /** What was not captured. */
  readonly warnings: readonly Notice[]
  /** Bytes copied of files that tasks hold open for writing or have mapped shared. */
  readonly copiedOpenFileBytes: number
  /** Of these, bytes that were copied before the pause, while the tasks ran. */
  readonly copiedAheadBytes: number
  /** Safe against a crash of the machine: files only; a moment after the checkpoint was taken. */
  readonly durable: boolean
  /** Processes that an engine held in memory which has ended since; a rollback can't bring them back. */
  readonly lostProcesses: number
  /** Its processes are on the disk only: a rollback reads them first. */
  readonly cold: boolean
  /** It stays in memory, and is kept whatever the retention says ({@link Sandbox.pin}). */
  readonly pinned: boolean
  /** Whether a rollback took it, so that the rollback can be undone. */
  readonly isSafety: boolean
  /** The whole call inside the engine. */
  readonly engineMs: number
}

/** A checkpoint just taken. */
export interface CheckpointResult extends Checkpoint {
  /** From the call to its return, as the caller sees it. */
  readonly callMs: number
}

/** What a rollback did. */
export interface RollbackResult {
  /** The checkpoint that the sandbox is at now. */
  readonly checkpoint: string
  /** Where it was before; roll back to it to undo. Null with `redo: false`. */
  readonly safetyCheckpoint: string | null
  /** How long the sandbox's tasks stood still. */
  readonly pauseMs: number
  readonly parts: PauseParts
  readonly writtenPages: number
  readonly capturedPages: number
  readonly switchedVolumes: number
  /** Bytes copied of files that tasks hold open for writing or have mapped shared, then or now. */
  readonly copiedOpenFileBytes: number
  /** Of these, bytes that were copied before the pause, while the tasks ran. */
  readonly copiedAheadBytes: number
  /** Processes of the checkpoint. */
  readonly processes: number
  readonly endedProcesses: number
  readonly endedThreads: number
  /** Processes that had ended, or changed beyond recall, and were made anew with their pids. */
  readonly restoredProcesses: number
  /** Threads that had ended, of processes that lived on. */
  readonly restoredThreads: number
  /** What is not as it was. */
  readonly notRestored: readonly Notice[]
  /** The whole call inside the engine. */
  readonly engineMs: number
  /** From the call to its return, as the caller sees it. */
  readonly callMs: number
}

import { toNotice } from '../protocol/failure.js'
import type {
  Checkpoint as WireCheckpoint,
  PauseParts as WireParts,
  RollbackReply,
} from '../protocol/gen/deltabox_pb.js'
import type { Checkpoint, PauseParts, RollbackResult } from './checkpoint.js'

const US_PER_MS = 1000

function toParts(parts: WireParts | undefined): PauseParts {
  return {
    freezeUs: parts?.freezeUs ?? 0,
    describeUs: parts?.describeUs ?? 0,
    scanUs: parts?.scanUs ?? 0,
    copyUs: parts?.copyUs ?? 0,
    switchUs: parts?.switchUs ?? 0,
    reopenUs: parts?.reopenUs ?? 0,
    applyUs: parts?.applyUs ?? 0,
    thawUs: parts?.thawUs ?? 0,
  }
}

/** Plain data with our units from a message of the engine. */
export function toCheckpoint(wire: WireCheckpoint): Checkpoint {
  return {
    id: wire.id,
    parent: wire.parent === '' ? null : wire.parent,
    name: wire.name === '' ? null : wire.name,
    metadata: { ...wire.metadata },
    createdAtMs: Number(wire.createdAtMs),
    pauseMs: wire.pauseUs / US_PER_MS,
    parts: toParts(wire.parts),
    dirtyPages: Number(wire.dirtyPages),
    parkedPages: Number(wire.parkedPages),
    totalPages: Number(wire.totalPages),
    copiedBytes: Number(wire.copiedBytes),
    layerBytes: Number(wire.layerBytes),
    changedFiles: Number(wire.changedFiles),
    changedVolumes: Number(wire.changedVolumes),
    processes: Number(wire.processes),
    threads: Number(wire.threads),
    warnings: wire.warnings.map(toNotice),
    copiedOpenFileBytes: Number(wire.copiedOpenFileBytes),
    copiedAheadBytes: Number(wire.copiedAheadBytes),
    durable: wire.durable,
    cold: wire.cold,
    pinned: wire.pinned,
    lostProcesses: Number(wire.lostProcesses),
    isSafety: wire.isSafety,
    engineMs: wire.engineUs / US_PER_MS,
  }
}

/** Plain data with our units from the reply to a rollback. */
export function toRollbackResult(wire: RollbackReply, callMs: number): RollbackResult {
  return {
    checkpoint: wire.checkpointId,
    safetyCheckpoint: wire.safetyCheckpointId === '' ? null : wire.safetyCheckpointId,
    pauseMs: wire.pauseUs / US_PER_MS,
    parts: toParts(wire.parts),
    writtenPages: Number(wire.writtenPages),
    capturedPages: Number(wire.capturedPages),
    switchedVolumes: Number(wire.switchedVolumes),
    copiedOpenFileBytes: Number(wire.copiedOpenFileBytes),
    copiedAheadBytes: Number(wire.copiedAheadBytes),
    processes: Number(wire.processes),
    endedProcesses: Number(wire.endedProcesses),
    endedThreads: Number(wire.endedThreads),
    restoredProcesses: Number(wire.restoredProcesses),
    restoredThreads: Number(wire.restoredThreads),
    notRestored: wire.notRestored.map(toNotice),
    engineMs: wire.engineUs / US_PER_MS,
    callMs,
  }
}

import type { Checkpoint, CheckpointResult, PauseParts, RollbackResult } from './checkpoint.js'

/** A part of a pause, in the order in which they come. */
interface Part {
  readonly name: string
  readonly us: number
  /** What its length depends on. */
  readonly cause: string
}

const KIB = 1024

/**
 * Where the time of a checkpoint or a rollback went, in lines for people: the parts of its pause, and what each grows
 * with.
 */
export function explainPause(result: Checkpoint | CheckpointResult | RollbackResult): string {
  const { pauseMs, engineMs } = result
  const parts = 'checkpoint' in result ? partsOfRollback(result) : partsOfCheckpoint(result)
  const pauseUs = pauseMs * 1_000
  const rest = Math.max(0, pauseUs - parts.reduce((sum, { us }) => sum + us, 0))
  const share = (us: number) => `${Math.round((100 * us) / Math.max(pauseUs, 1))} %`.padStart(5)
  const line = (name: string, ms: number, more: string) =>
    `${name.padEnd(10)}${`${ms.toFixed(2)} ms`.padStart(10)}  ${more}`
  return [
    line('pause', pauseMs, 'the tasks stood still'),
    ...[...parts, { name: 'rest', us: rest, cause: 'between these, and a pause that was broken off' }].map(
      ({ name, us, cause }) => line(`  ${name}`, us / 1_000, `${share(us)}  ${cause}`),
    ),
    line('engine', engineMs, 'with what came before and after the pause'),
    ...('callMs' in result ? [line('call', result.callMs, 'as the caller saw it')] : []),
  ].join('\n')
}

function partsOfCheckpoint(taken: Checkpoint): Part[] {
  const { parts, processes, threads, dirtyPages, parkedPages, totalPages, copiedBytes, changedVolumes } = taken
  const later = parkedPages > 0 ? `, ${parkedPages} of them after the pause` : ''
  return [
    ...beforeSwitch(parts, {
      tasks: `${threads} threads of ${processes} processes`,
      scanned: `finding the written ones of ${totalPages} pages`,
      copied: `${dirtyPages} written pages${later}, ${inKib(copiedBytes)} new to the store`,
    }),
    { name: 'switch', us: parts.switchUs, cause: `volumes with changes: ${changedVolumes}; ${openFiles(taken)}` },
    { name: 'reopen', us: parts.reopenUs, cause: 'files open for writing on these' },
    { name: 'thaw', us: parts.thawUs, cause: 'letting them go on' },
  ]
}

function partsOfRollback(done: RollbackResult): Part[] {
  const { parts, processes, endedProcesses, restoredProcesses, restoredThreads, writtenPages, capturedPages } = done
  const undo = done.safetyCheckpoint === null ? 'no safety checkpoint' : 'for the safety checkpoint'
  return [
    ...beforeSwitch(parts, {
      tasks: 'all that run',
      scanned: `pages written since the last checkpoint, ${undo}`,
      copied: `${capturedPages} pages, ${undo}`,
    }),
    { name: 'switch', us: parts.switchUs, cause: `volumes that go back: ${done.switchedVolumes}; ${openFiles(done)}` },
    {
      name: 'apply',
      us: parts.applyUs,
      cause:
        `${writtenPages} pages put back into ${processes} processes; ${endedProcesses} ended, ` +
        `${restoredProcesses} processes and ${restoredThreads} threads made again`,
    },
    { name: 'thaw', us: parts.thawUs, cause: 'letting them go on' },
  ]
}

function beforeSwitch(parts: PauseParts, causes: { tasks: string; scanned: string; copied: string }): Part[] {
  return [
    { name: 'freeze', us: parts.freezeUs, cause: `stopping ${causes.tasks}` },
    { name: 'describe', us: parts.describeUs, cause: 'registers, signals, mappings, descriptors of each' },
    { name: 'scan', us: parts.scanUs, cause: causes.scanned },
    { name: 'copy', us: parts.copyUs, cause: causes.copied },
  ]
}

function openFiles(result: Checkpoint | RollbackResult): string {
  const ahead = result.copiedAheadBytes > 0 ? `, ${inKib(result.copiedAheadBytes)} of them before the pause` : ''
  return `${inKib(result.copiedOpenFileBytes)} of open files copied${ahead}`
}

function inKib(bytes: number): string {
  return `${Math.ceil(bytes / KIB)} KiB`
}

const PAUSE_GOAL_MS = 1.0

const ms = (value) => value.toFixed(3)
const pair = ({ p50, p95 }) => `${ms(p50)} / ${ms(p95)}`

/** The measurements of all resident sizes as text. */
export function renderReport(results) {
  const rows = [
    ['resident memory, MB', ({ residentMb }) => `${residentMb}`],
    [`checkpoint: pause, ms (goal: p50 ${PAUSE_GOAL_MS.toFixed(1)})`, ({ checkpoint }) => pair(checkpoint.pauseMs)],
    ['checkpoint: call to return, ms', ({ checkpoint }) => pair(checkpoint.callMs)],
    ...parts('checkpoint'),
    ['rollback: pause, ms', ({ rollback }) => pair(rollback.pauseMs)],
    ['rollback: call to return, ms', ({ rollback }) => pair(rollback.callMs)],
    ...parts('rollback'),
    ['first checkpoint: pause, ms', ({ firstCheckpointPauseMs }) => ms(firstCheckpointPauseMs)],
    [
      'changed pages / files / stored bytes',
      ({ changed }) => `${changed.pages} / ${changed.files} / ${changed.storedBytes}`,
    ],
    ['longest gap seen by a spinning guest, ms', ({ guestGapMs }) => pair(guestGapMs)],
    ['that gap beside the reported pause', ({ gapBesidePause }) => `${gapBesidePause.toFixed(2)}x`],
    ['engine CPU per checkpoint, ms', ({ engine }) => engine.cpuMsPerCheckpoint.toFixed(2)],
    ['engine bytes written per checkpoint', ({ engine }) => `${engine.writtenBytesPerCheckpoint ?? 'not readable'}`],
    ['git status, warm, ms', ({ gitStatus }) => pair(gitStatus.warmMs)],
    ['git status, first after a checkpoint, ms', ({ gitStatus }) => pair(gitStatus.afterCheckpointMs)],
  ]
  const cells = rows.map(([label, render]) => [label, ...results.map(render)])
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)))
  const lines = cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  )
  return ['p50 / p95', ...lines].join('\n')
}

function parts(call) {
  const names = { freezeUs: 'freeze', describeUs: 'describe', scanUs: 'scan', copyUs: 'copy' }
  Object.assign(names, { switchUs: 'switch', reopenUs: 'reopen', applyUs: 'apply', thawUs: 'thaw' })
  return Object.entries(names)
    .filter(([part]) => call === 'rollback' || part !== 'applyUs')
    .map(([part, name]) => [`  of which ${name}, µs`, (result) => partPair(result[call].partsUs[part])])
}

const partPair = ({ p50, p95 }) => `${p50.toFixed(0)} / ${p95.toFixed(0)}`

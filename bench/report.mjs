const PAUSE_GOAL_MS = 1.0
// A reported pause that a program inside sees as so much longer or shorter is wrong.
const MAX_GAP_DIFFERENCE = 0.2

const ms = (value) => value.toFixed(3)
const pair = ({ p50, p95 }) => `${ms(p50)} / ${ms(p95)}`
const pairUs = ({ p50, p95 }) => `${p50.toFixed(0)} / ${p95.toFixed(0)}`

// The parts of a checkpoint's pause, each with its lower limit where there is one.
const PARTS = [
  ['freeze', 'freezeUs', 'seize, interrupt, wait', 'freezeUs'],
  ['describe (registers, mappings, descriptors, …)', 'describeUs', 'mapping list', 'mappingsUs'],
  ['scan (and protect again)', 'scanUs', 'scan', 'scanUs'],
  ['copy', 'copyUs', 'copy of the same pages', 'copyUs'],
  ['switch', 'switchUs', 'bare switch', 'switchUs'],
  ['reopen', 'reopenUs'],
  ['thaw', 'thawUs', 'continue', 'continueUs'],
]

/** The measurements of all resident sizes as text. */
export function renderReport(results) {
  const rows = [
    ['resident memory, MB', ({ residentMb }) => `${residentMb}`],
    // A busy machine shows in every p95: whoever is thawed first takes the engine's processor.
    ['load of the machine before (1 minute)', ({ loadBefore }) => loadBefore.toFixed(1)],
    [`checkpoint: pause, ms (goal ${PAUSE_GOAL_MS.toFixed(1)} ms)`, ({ checkpoint }) => pair(checkpoint.pauseMs)],
    ['checkpoint: call to return, ms', ({ checkpoint }) => pair(checkpoint.callMs)],
    ...PARTS.flatMap(([name, part, floorName, floor]) => [
      [`  ${name}, µs`, ({ checkpoint }) => pairUs(checkpoint.partsUs[part])],
      ...(floor === undefined ? [] : [[`    floor: ${floorName}, µs`, (result) => pairUs(result.floor[floor])]]),
    ]),
    ['sum of the floors, µs', ({ floor }) => pairUs(floor.sumUs)],
    ['pause beside the sum of the floors', ({ checkpoint, floor }) => ratio(checkpoint.pauseMs, floor.sumUs)],
    ['threads / mappings / pages of the floors', ({ floor }) => counts(floor)],
    ['first checkpoint: pause, ms', ({ firstCheckpointPauseMs }) => ms(firstCheckpointPauseMs)],
    ['changed pages / files / stored bytes', ({ changed }) => Object.values(changed).join(' / ')],
    ['longest gap seen by a spinning guest, ms', ({ guestGapMs }) => pair(guestGapMs)],
    ['that gap beside the reported pause', ({ gapBesidePause }) => judgeGap(gapBesidePause)],
    ['rollback: pause, ms', ({ rollback }) => pair(rollback.pauseMs)],
    ['rollback: call to return, ms', ({ rollback }) => pair(rollback.callMs)],
    ...rollbackParts(),
    ['engine CPU per checkpoint, ms', ({ engine }) => ms(engine.cpuMs)],
    ['  of which after the reply, ms', ({ engine }) => ms(engine.cpuMsAfterReply)],
    [
      'engine bytes written per checkpoint',
      ({ engine }) => (Number.isFinite(engine.writtenBytes) ? `${engine.writtenBytes}` : 'not readable'),
    ],
    ['git status: warm, ms', ({ gitStatus }) => pair(gitStatus.warmMs)],
    ['git status: first after a checkpoint, ms', ({ gitStatus }) => pair(gitStatus.firstMs)],
    ['git status: second after a checkpoint, ms', ({ gitStatus }) => pair(gitStatus.secondMs)],
  ]
  return ['p50 / p95', ...align(rows.map(([label, render]) => [label, ...results.map(render)]))].join('\n')
}

const ratio = (pauseMs, floorUs) => `${((pauseMs.p50 * 1000) / floorUs.p50).toFixed(2)}x`
const counts = ({ threads, mappings, pages }) => `${threads.p50} / ${mappings.p50} / ${pages.p50}`

function judgeGap(beside) {
  const verdict = Math.abs(beside - 1) > MAX_GAP_DIFFERENCE ? ' DEFECT' : ''
  return `${beside.toFixed(2)}x${verdict}`
}

function rollbackParts() {
  const names = { freezeUs: 'freeze', describeUs: 'describe', scanUs: 'scan', copyUs: 'copy', switchUs: 'switch' }
  return Object.entries({ ...names, applyUs: 'apply', thawUs: 'thaw' }).map(([part, name]) => [
    `  ${name}, µs`,
    ({ rollback }) => pairUs(rollback.partsUs[part]),
  ])
}

function align(table) {
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)))
  return table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  )
}

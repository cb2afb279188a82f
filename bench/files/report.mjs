const us = ({ p50, p95 }) => `${p50.toFixed(0)} / ${p95.toFixed(0)}`
const ms = ({ p50, p95 }) => `${p50.toFixed(2)} / ${p95.toFixed(2)}`
const times = (ratio) => `${ratio.toFixed(2)}x`

const JOB_NAMES = {
  gitStatus: 'git status',
  npmTest: 'tests of a small npm project',
  unpack: 'tar, 7,000 files',
  typescriptBuild: 'TypeScript build, 300 files',
}

/** The measurements of files as text. */
export function renderFilesReport({ pauses, depth, starts, work, written, peers }) {
  return [
    'files: p50 / p95',
    ...align([...pauseRows(pauses), ...depthRows(depth), ...startRows(starts), ...writtenRows(written)]),
    '',
    ...align([
      [
        'work, ms',
        'outside',
        'inside, warm',
        'first after a checkpoint',
        'second',
        'warm beside outside',
        'first beside second',
      ],
      ...Object.entries(work).map(([name, job]) => [
        JOB_NAMES[name],
        ...[job.outsideMs, job.warmMs, job.firstMs, job.secondMs].map(ms),
        times(job.warmMs.p50 / job.outsideMs.p50),
        times(job.firstMs.p50 / job.secondMs.p50),
      ]),
    ]),
    '',
    ...align([
      ['the project with 10 changed files, ms', 'checkpoint', 'rollback'],
      ...Object.entries(peers).map(([name, peer]) =>
        peer.notRun === undefined
          ? [name, ms(peer.checkpointMs), ms(peer.rollbackMs)]
          : [name, `not run: ${peer.notRun}`],
      ),
    ]),
  ].join('\n')
}

function pauseRows({ few, many, manyBesideFew, idle, withSessions }) {
  const rows = [few, many].flatMap(({ files, floorUs, checkpoint, rollback }) => [
    [`floor: switch of one volume and attributes of its root, µs`, us(floorUs)],
    [`checkpoint after ${files} new files: pause, µs`, us(checkpoint.pauseUs), times(checkpoint.besideFloor)],
    [`  of which switch, µs`, us(checkpoint.switchUs)],
    [`  call, ms`, ms(checkpoint.callMs)],
    [`rollback over ${files} new files: pause, µs`, us(rollback.pauseUs), times(rollback.besideFloor)],
    [`  of which switch, µs`, us(rollback.switchUs)],
    [`  call, ms`, ms(rollback.callMs)],
  ])
  return [
    ...rows,
    [`pause after ${many.files} files beside ${few.files}`, times(manyBesideFew)],
    ['unchanged, no process: pause, µs', us(idle.pauseUs)],
    ['unchanged, a shell and a Python session: pause, µs', us(withSessions.pauseUs)],
  ]
}

function depthRows({ early, late, reached, stoppedBy, pauseRatio, coldLookupRatio }) {
  const rows = [early, ...(late === undefined ? [] : [late])].flatMap((at) => [
    [`checkpoints up to number ${at.number}: pause, µs`, us(at.pauseUs)],
    ['  call, ms', ms(at.callMs)],
    [
      '  lstat of all files, µs per file: cold / warm',
      `${at.coldUsPerFile.toFixed(1)} / ${at.warmUsPerFile.toFixed(1)}`,
    ],
  ])
  if (stoppedBy !== undefined) return [...rows, [`stopped at checkpoint ${reached}`, stoppedBy]]
  return [...rows, ['late beside early: pause, cold lookup', times(pauseRatio), times(coldLookupRatio)]]
}

const startRows = ({ run, runInShell, create }) => [
  [`commands.run(['true']) / a plain spawn, ms`, `${ms(run.ownMs)} | ${ms(run.bareMs)}`, times(run.ratio)],
  [
    `commands.run('true') / bash -c true, ms`,
    `${ms(runInShell.ownMs)} | ${ms(runInShell.bareMs)}`,
    times(runInShell.ratio),
  ],
  ['Sandbox.create / bare namespaces, ms', `${ms(create.ownMs)} | ${ms(create.bareMs)}`, times(create.ratio)],
]

const writtenRows = ({ fileSystem, small, large }) =>
  [small, large].map(({ sizeBytes, engineBytes, layerBytes }) => [
    `one line edited in a file of ${sizeBytes / 1024} KiB (${fileSystem}): bytes of the layer / written by the engine`,
    `${layerBytes} / ${Number.isFinite(engineBytes) ? engineBytes : 'not readable'}`,
  ])

function align(table) {
  const columns = Math.max(...table.map((row) => row.length))
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...table.map((row) => row[column]?.length ?? 0)),
  )
  return table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  )
}

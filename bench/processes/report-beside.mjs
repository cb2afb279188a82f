// What is measured beside other things: the agent's session without checkpoints, and other tools.
import { table } from '../table.mjs'

const ms = ({ p50, p95 }) => `${p50.toFixed(2)} / ${p95.toFixed(2)}`
const seconds = ({ p50, p95 }) => `${(p50 / 1000).toFixed(2)} / ${(p95 / 1000).toFixed(2)} s`
const percent = (part) => `${(part * 100).toFixed(1)} %`

export function renderAgent({ steps, rollbacks, latencyMs, withoutLatency, withLatency }) {
  const row = (name, { plainMs, keptMs, longer, inCalls, stepsLonger }) => [
    name,
    seconds(plainMs),
    seconds(keptMs),
    percent(longer),
    percent(inCalls),
    percent(stepsLonger),
  ]
  return table([
    [
      `${steps} steps, a checkpoint after each, ${rollbacks} rollbacks`,
      'without',
      'with',
      'longer by',
      'of it in checkpoint and rollback',
      'steps themselves longer by',
    ],
    row('the model’s time not counted', withoutLatency),
    row(`the model takes ${latencyMs} ms a step`, withLatency),
  ])
}

export function renderPeers({ deltabox, criu, container, copy, shadowGit }) {
  const trees = { 'copy of the tree in memory (files only)': copy, 'shadow git in memory (files only)': shadowGit }
  return table([
    ['', 'checkpoint', 'rollback'],
    ...(deltabox.notRun === undefined
      ? deltabox.points.flatMap(({ footprintMb, checkpoint, rollback }) => [
          [`DeltaBox, ${footprintMb} MB: pause`, ms(checkpoint.pauseMs), ms(rollback.pauseMs)],
          [`DeltaBox, ${footprintMb} MB: call`, ms(checkpoint.callMs), ms(rollback.callMs)],
        ])
      : [['DeltaBox', `not run: ${deltabox.notRun}`, '']]),
    ...dumpRows('CRIU', criu),
    ...dumpRows('container of runc', container),
    ...Object.entries(trees).map(([name, peer]) =>
      peer.notRun === undefined
        ? [name, ms(peer.checkpointMs), ms(peer.rollbackMs)]
        : [name, `not run: ${peer.notRun}`, ''],
    ),
  ])
}

function dumpRows(name, { notRun, version, points }) {
  if (notRun !== undefined) return [[name, `not run: ${notRun}`, '']]
  return points.flatMap(({ footprintMb, dumpMs, restoreMs, dumpAndCopyMs, restoreAndCopyMs }) => [
    [`${name} ${version}, ${footprintMb} MB: memory only`, ms(dumpMs), ms(restoreMs)],
    [`${name} ${version}, ${footprintMb} MB: with a copy of the tree`, ms(dumpAndCopyMs), ms(restoreAndCopyMs)],
  ])
}

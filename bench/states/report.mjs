import { table } from '../table.mjs'
import { renderPlots } from './plots.mjs'

const pair = ({ p50, p95 }) => `${p50.toFixed(1)} / ${p95.toFixed(1)}`
const one = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(0))

const parts = (memory, whose) => `${one(memory[`${whose}Mb`])} / ${one(memory[`${whose}PrivateMb`])}`

/** The measurements of states as text. */
export function renderStatesReport({ restores, forks, background, checkpointCurve, footprintCurve, sandboxCurve }) {
  return [
    'the way back, ms (p50 / p95)',
    table([
      ['footprint, MB', ...restores.map(({ footprintMb }) => `${footprintMb}`)],
      ...['hot', 'cold', 'killed'].flatMap((kind) => [
        [`${kind}: pause`, ...restores.map((result) => pair(result[kind].pauseMs))],
        [`${kind}: call`, ...restores.map((result) => pair(result[kind].callMs))],
      ]),
      ['engine killed: connect', ...restores.map(({ engine }) => pair(engine.callMs))],
    ]),
    'forks',
    table([
      ['footprint, MB', ...forks.map(({ footprintMb }) => `${footprintMb}`)],
      ['forks at once', ...forks.map(({ count }) => `${count}`)],
      ['made, image written: all, ms', ...forks.map(({ madeMs }) => one(madeMs))],
      ['one more, ms', ...forks.map(({ oneMoreMs }) => one(oneMoreMs))],
      ['first answer that read all of its memory, ms', ...forks.map(({ answerMs }) => pair(answerMs))],
      ['memory of a fork’s processes, MB', ...forks.map(({ forkMb }) => pair(forkMb.processesMb))],
      ['memory of a fork’s engine, MB', ...forks.map(({ forkMb }) => pair(forkMb.engineMb))],
      ['disk of all forks and the image, MB', ...forks.map(({ forksDiskMb }) => one(forksDiskMb))],
    ]),
    'behind the reply: what the engine spends on a checkpoint of 130 pages and one file until it is durable',
    table(backgroundRows(background)),
    'checkpoints of one sandbox, all in memory',
    table([
      ['number', 'engine, MB', 'page store, MB', 'disk, MB', 'last one copied, KiB', 'its pause, ms'],
      ...checkpointCurve.map((point) => [
        `${point.checkpoints}`,
        ...[point.engineMb, point.pageStoreMb, point.diskMb, point.copiedKb, point.pauseMs].map(one),
      ]),
    ]),
    'one sandbox of each footprint with ten checkpoints, and four forks of it, each: MB, with what is shared in parts / private alone',
    table([
      ['footprint', 'processes', 'engine, hot', 'engine, cold', 'disk, cold', 'fork: processes', 'fork: engine'],
      ...footprintCurve.map(({ footprintMb, hot, cold, forked }) => [
        `${footprintMb}`,
        ...[parts(hot, 'processes'), parts(hot, 'engine'), parts(cold, 'engine'), one(cold.diskMb)],
        ...[parts(forked, 'processes'), parts(forked, 'engine')],
      ]),
    ]),
    'sandboxes at once, each: MB, with what is shared in parts / private alone',
    table([
      ['number', 'processes', 'engine', 'disk'],
      ...sandboxCurve.map((point) => [
        `${point.sandboxes}`,
        ...[parts(point, 'processes'), parts(point, 'engine'), one(point.diskMb)],
      ]),
    ]),
    renderPlots({ checkpointCurve, footprintCurve, sandboxCurve }),
  ].join('\n')
}

function backgroundRows(background) {
  const kib = (bytes) => (Number.isFinite(bytes) ? one(bytes / 1024) : 'not readable')
  const rows = ['files', 'processes'].flatMap((durability) => [
    [
      `${durability}: processor time of the engine’s own thread, ms`,
      ...background.map((at) => one(at[durability].ownThreadCpuMs)),
    ],
    [`${durability}: of its other threads, ms`, ...background.map((at) => one(at[durability].backgroundCpuMs))],
    [`${durability}: dirty, KiB`, ...background.map((at) => kib(at[durability].dirtyBytes))],
    [`${durability}: written by the engine, KiB`, ...background.map((at) => kib(at[durability].writtenBytes))],
    [`${durability}: reply to durable, ms`, ...background.map((at) => pair(at[durability].durableMs))],
  ])
  return [['footprint, MB', ...background.map(({ footprintMb }) => `${footprintMb}`)], ...rows]
}

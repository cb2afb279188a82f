// What a program loses to a checkpoint every second, over how fast it writes pages.
import { LineSession } from '../line-session.mjs'
import { quantile, summarise } from '../statistics.mjs'
import { withSandbox } from '../with-sandbox.mjs'

const INTERVAL_MS = 1000
// Of each rate, so that both ways meet the machine in the same moods.
const SERIES = 2
const AS_FAST_AS_IT_CAN = -1
const NS_PER_SECOND = 1e9
const MS_PER_SECOND = 1000

/** `rates`: pages a second, -1 for as many as it can; `seconds`: how long each way is watched in each series. */
export async function measureSlowdown({ workspace, rates, seconds, memoryMb }) {
  const points = []
  for (const rate of rates) {
    const without = []
    const withCheckpoints = []
    const calls = []
    for (let series = 0; series < SERIES; series++) {
      // What was never checkpointed has no page protected: the way without comes first.
      await withSandbox({ workspace, retention: { keepLast: 2 } }, async (sandbox) => {
        const writer = await LineSession.start(sandbox, ['./page-writer', `${memoryMb}`, `${rate}`])
        await writer.ask('report')
        without.push(...(await watch(writer, rate, seconds, () => 0)))
        await sandbox.checkpoint()
        const checkpoint = async () => {
          calls.push(await sandbox.checkpoint())
          return calls.at(-1).pauseMs
        }
        withCheckpoints.push(...(await watch(writer, rate, seconds, checkpoint)))
      })
    }
    points.push(summarisePoint(rate, without, withCheckpoints, calls))
  }
  return points
}

/**
 * Its throughput in each of so many seconds. `act` is done at the beginning of each, which takes longer where that does;
 * what it answers is for how many milliseconds the program stood still.
 */
async function watch(writer, rate, seconds, act) {
  const samples = []
  let last = await report(writer)
  for (let second = 0; second < seconds; second++) {
    const startMs = performance.now()
    const stoodStillMs = await act()
    const leftMs = INTERVAL_MS - (performance.now() - startMs)
    if (leftMs > 0) await new Promise((resolve) => setTimeout(resolve, leftMs))
    const now = await report(writer)
    const pages = now.pages - last.pages
    const done = rate === AS_FAST_AS_IT_CAN ? pages : now.units - last.units
    const elapsedS = (now.ns - last.ns) / NS_PER_SECOND
    samples.push({
      workPerSecond: done / elapsedS,
      pagesPerSecond: pages / elapsedS,
      stoodStill: stoodStillMs / MS_PER_SECOND / elapsedS,
    })
    last = now
  }
  return samples
}

async function report(writer) {
  const [units, pages, ns] = (await writer.ask('report')).split(' ').map(Number)
  return { units, pages, ns }
}

function summarisePoint(rate, without, withCheckpoints, calls) {
  const all = (samples, field) => samples.map((sample) => sample[field])
  const usual = quantile(all(without, 'workPerSecond'), 0.5)
  return {
    rate,
    pagesPerSecond: quantile(all(without, 'pagesPerSecond'), 0.5),
    workPerSecond: usual,
    workPerSecondWithCheckpoints: quantile(all(withCheckpoints, 'workPerSecond'), 0.5),
    lost: summarise(all(withCheckpoints, 'workPerSecond').map((work) => 1 - work / usual)),
    stoodStill: summarise(all(withCheckpoints, 'stoodStill')),
    callMs: summarise(calls.map(({ callMs }) => callMs)),
    dirtyPages: summarise(calls.map(({ dirtyPages }) => dirtyPages)),
  }
}

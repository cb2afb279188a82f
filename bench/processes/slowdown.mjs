// What a program loses to a checkpoint every second, over how fast it writes pages.
import { LineSession } from '../line-session.mjs'
import { quantile, summarise } from '../statistics.mjs'
import { withSandbox } from '../with-sandbox.mjs'

const INTERVAL_MS = 1000
// Of each rate, so that both ways meet the machine in the same moods.
const SERIES = 2
const AS_FAST_AS_IT_CAN = -1
const NS_PER_SECOND = 1e9

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
        without.push(...(await watch(writer, rate, seconds, () => {})))
        await sandbox.checkpoint()
        const checkpoint = async () => calls.push(await sandbox.checkpoint())
        withCheckpoints.push(...(await watch(writer, rate, seconds, checkpoint)))
      })
    }
    points.push(summarisePoint(rate, without, withCheckpoints, calls))
  }
  return points
}

/** Its throughput in each of so many seconds; `act` is done at the beginning of each. */
async function watch(writer, rate, seconds, act) {
  const samples = []
  let last = await report(writer)
  for (let second = 0; second < seconds; second++) {
    const startMs = performance.now()
    await act()
    const leftMs = INTERVAL_MS - (performance.now() - startMs)
    if (leftMs > 0) await new Promise((resolve) => setTimeout(resolve, leftMs))
    const now = await report(writer)
    const done = rate === AS_FAST_AS_IT_CAN ? now.pages - last.pages : now.units - last.units
    samples.push({
      perSecond: (done * NS_PER_SECOND) / (now.ns - last.ns),
      pagesPerSecond: ((now.pages - last.pages) * NS_PER_SECOND) / (now.ns - last.ns),
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
  const perSecond = (samples) => summarise(samples.map((sample) => sample.perSecond))
  const lost = (fraction) =>
    1 -
    quantile(
      withCheckpoints.map((sample) => sample.perSecond),
      fraction,
    ) /
      perSecond(without).p50
  const pausesMs = calls.map(({ pauseMs }) => pauseMs)
  return {
    rate,
    pagesPerSecond: quantile(
      without.map((sample) => sample.pagesPerSecond),
      0.5,
    ),
    without: perSecond(without),
    with: perSecond(withCheckpoints),
    // Of the slowest seconds the p95 of what is lost.
    lost: { p50: lost(0.5), p95: lost(0.05) },
    stoodStill: {
      p50: quantile(pausesMs, 0.5) / INTERVAL_MS,
      p95: quantile(pausesMs, 0.95) / INTERVAL_MS,
    },
    callMs: summarise(calls.map(({ callMs }) => callMs)),
    dirtyPages: summarise(calls.map(({ dirtyPages }) => dirtyPages)),
  }
}

import { summarise, summariseFields } from '../statistics.mjs'

// The first checkpoints copy all there is, and caches and the engine's own memory settle in them.
export const WARM_UP_ROUNDS = 3

const of = (calls, pick) => summarise(calls.map(pick))

/** Pause and call of checkpoints, and what they found. */
export function summariseCheckpoints(calls) {
  return {
    ...summariseTimes(calls),
    dirtyPages: of(calls, ({ dirtyPages }) => dirtyPages),
    processes: of(calls, ({ processes }) => processes),
    threads: of(calls, ({ threads }) => threads),
  }
}

/** Pause and call of rollbacks, and what they wrote. */
export function summariseRollbacks(calls) {
  return { ...summariseTimes(calls), writtenPages: of(calls, ({ writtenPages }) => writtenPages) }
}

const summariseTimes = (calls) => ({
  pauseMs: of(calls, ({ pauseMs }) => pauseMs),
  callMs: of(calls, ({ callMs }) => callMs),
  partsUs: summariseFields(calls.map(({ parts }) => parts)),
  copiedOpenFileBytes: of(calls, ({ copiedOpenFileBytes }) => copiedOpenFileBytes),
  copiedAheadBytes: of(calls, ({ copiedAheadBytes }) => copiedAheadBytes),
})

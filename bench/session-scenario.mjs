// bash and a Python session, the project as workspace: 130 pages and 10 files change between checkpoints.
import { setTimeout as sleepMs } from 'node:timers/promises'
import { Sandbox } from '@deltabox/core'
import { readUsage } from './engine-usage.mjs'
import { FloorProbe, sandboxPids } from './floor-probe.mjs'
import { measureGitStatus } from './git-status.mjs'
import { LineSession } from './line-session.mjs'
import { quantile, summarise, summariseFields } from './statistics.mjs'

const CHANGED_PAGES = 130
const CHANGED_FILES = 10
const PAGE_BYTES = 4096
// Python's own resident memory, to which the scenario adds.
const PYTHON_MB = 10
// Tracking, caches and the engine's own memory settle in the first rounds.
const WARM_UP_ROUNDS = 3
// What the engine does after its reply is over long before.
const BACKGROUND_MS = 20
const PARTS = ['freezeUs', 'describeUs', 'scanUs', 'copyUs', 'switchUs', 'reopenUs', 'applyUs', 'thawUs']

/** Measures one resident size; all times in milliseconds unless their name says otherwise. */
export async function runSessionScenario({ workspace, residentMb, rounds }) {
  const sandbox = await Sandbox.create({ workspace })
  try {
    const scenario = await startSessions(sandbox, residentMb)
    const first = await sandbox.checkpoint({ name: 'first' })
    for (let round = 0; round < WARM_UP_ROUNDS; round++) {
      await scenario.change(round)
      await sandbox.checkpoint()
    }
    const checkpoints = await measureCheckpoints(sandbox, scenario, rounds)
    return {
      residentMb,
      firstCheckpointPauseMs: first.pauseMs,
      ...checkpoints.summary,
      rollback: summariseCalls(await measureRollbacks(sandbox, scenario, checkpoints.calls, rounds)),
      gitStatus: await measureGitStatus(sandbox, Math.min(rounds, 10)),
    }
  } finally {
    await sandbox.kill()
  }
}

async function startSessions(sandbox, residentMb) {
  // The first process is the first to be frozen and the first to go on: its gap lacks only how long the others take to
  // be let go, and a reported pause that hides time can't hide it from this guest.
  const gapGuest = await LineSession.start(sandbox, ['./gap-guest'])
  const shell = await LineSession.start(sandbox, ['bash'])
  const python = await LineSession.start(sandbox, ['python3', '-i', '-q', '-u'])
  const memoryBytes = Math.max(residentMb - PYTHON_MB, 1) << 20
  await python.ask(`memory = bytearray(b"x") * ${memoryBytes}; print(len(memory))`)
  const step = Math.floor(memoryBytes / CHANGED_PAGES / PAGE_BYTES) * PAGE_BYTES
  const change = async (round) => {
    const touch = `[memory.__setitem__(i * ${step}, ${round % 256}) for i in range(${CHANGED_PAGES})]`
    await python.ask(`_ = ${touch}; print("done")`)
    await shell.ask(`for i in {1..${CHANGED_FILES}}; do echo ${round} > bench-$i; done; echo done`)
  }
  return { gapGuest, change }
}

/** Checkpoints and floors take turns, so that both meet the machine in the same moods. */
async function measureCheckpoints(sandbox, { gapGuest, change }, rounds) {
  const { enginePid } = await sandbox.getInfo()
  const calls = []
  const gapsMs = []
  const floors = []
  const usages = []
  let probe
  try {
    for (let round = 0; round < rounds; round++) {
      await change(2 * round)
      await gapGuest.ask('begin')
      const before = readUsage(enginePid)
      const checkpoint = await sandbox.checkpoint()
      const replied = readUsage(enginePid)
      await sleepMs(BACKGROUND_MS)
      usages.push({ before, replied, after: readUsage(enginePid) })
      gapsMs.push(Number(await gapGuest.ask('report')) / 1e6)
      calls.push(checkpoint)

      probe ??= new FloorProbe(Math.max(checkpoint.changedVolumes, 1), sandboxPids(enginePid))
      await change(2 * round + 1)
      floors.push(await probe.measure())
      await sandbox.checkpoint()
    }
  } finally {
    probe?.end()
  }
  const summary = {
    checkpoint: summariseCalls(calls),
    floor: summariseFields(floors),
    changed: {
      pages: medianOf(calls, ({ dirtyPages }) => dirtyPages),
      files: medianOf(calls, ({ changedFiles }) => changedFiles),
      storedBytes: medianOf(calls, ({ copiedBytes, layerBytes }) => copiedBytes + layerBytes),
    },
    guestGapMs: summarise(gapsMs),
    gapBesidePause: quantile(
      gapsMs.map((gapMs, index) => gapMs / calls[index].pauseMs),
      0.5,
    ),
    engine: {
      cpuMs: medianOf(usages, ({ before, after }) => after.cpuMs - before.cpuMs),
      cpuMsAfterReply: medianOf(usages, ({ replied, after }) => after.cpuMs - replied.cpuMs),
      writtenBytes: medianOf(usages, ({ before, after }) => after.writtenBytes - before.writtenBytes),
    },
  }
  return { calls, summary }
}

async function measureRollbacks(sandbox, { change }, checkpoints, rounds) {
  const rollbacks = []
  for (let round = 0; round < rounds; round++) {
    await change(round)
    rollbacks.push(await sandbox.rollback(checkpoints[checkpoints.length - 1 - (round % 2)]))
  }
  return rollbacks
}

const medianOf = (samples, pick) => quantile(samples.map(pick), 0.5)

function summariseCalls(calls) {
  return {
    pauseMs: summarise(calls.map(({ pauseMs }) => pauseMs)),
    callMs: summarise(calls.map(({ callMs }) => callMs)),
    engineMs: summarise(calls.map(({ engineMs }) => engineMs)),
    partsUs: Object.fromEntries(PARTS.map((part) => [part, summarise(calls.map(({ parts }) => parts[part]))])),
  }
}

// bash and a Python session, the project as workspace: 130 pages and 10 files change between checkpoints.
import { Sandbox } from '@deltabox/core'
import { readUsage } from './engine-usage.mjs'
import { LineSession } from './line-session.mjs'
import { quantile, summarise } from './statistics.mjs'

const CHANGED_PAGES = 130
const CHANGED_FILES = 10
const PAGE_BYTES = 4096
// Python's own resident memory, to which the scenario adds.
const PYTHON_MB = 10
const PARTS = ['freezeUs', 'describeUs', 'scanUs', 'copyUs', 'switchUs', 'reopenUs', 'applyUs', 'thawUs']

/** Measures one resident size; all times in milliseconds unless their name says otherwise. */
export async function runSessionScenario({ workspace, residentMb, rounds }) {
  const sandbox = await Sandbox.create({ workspace })
  try {
    return await measure(sandbox, residentMb, rounds)
  } finally {
    await sandbox.kill()
  }
}

async function measure(sandbox, residentMb, rounds) {
  const { enginePid } = await sandbox.getInfo()
  const shell = await LineSession.start(sandbox, ['bash'])
  const python = await LineSession.start(sandbox, ['python3', '-i', '-q', '-u'])
  const gapGuest = await LineSession.start(sandbox, ['./gap-guest'])
  const memoryBytes = Math.max(residentMb - PYTHON_MB, 1) << 20
  await python.ask(`memory = bytearray(b"x") * ${memoryBytes}; print(len(memory))`)

  const step = Math.floor(memoryBytes / CHANGED_PAGES / PAGE_BYTES) * PAGE_BYTES
  const change = async (round) => {
    const touch = `[memory.__setitem__(i * ${step}, ${round % 256}) for i in range(${CHANGED_PAGES})]`
    await python.ask(`_ = ${touch}; print("done")`)
    await shell.ask(`for i in {1..${CHANGED_FILES}}; do echo ${round} > bench-$i; done; echo done`)
  }

  const first = await sandbox.checkpoint({ name: 'first' })
  // Tracking, caches and the engine's own memory settle in the first rounds.
  for (let round = 0; round < 3; round++) {
    await change(round)
    await sandbox.checkpoint()
  }
  const before = readUsage(enginePid)
  const checkpoints = []
  const gapsMs = []
  for (let round = 0; round < rounds; round++) {
    await change(round)
    await gapGuest.ask('begin')
    const checkpoint = await sandbox.checkpoint()
    gapsMs.push(Number(await gapGuest.ask('report')) / 1e6)
    checkpoints.push(checkpoint)
  }
  const after = readUsage(enginePid)

  const rollbacks = []
  for (let round = 0; round < rounds; round++) {
    await change(round)
    rollbacks.push(await sandbox.rollback(checkpoints[checkpoints.length - 1 - (round % 2)]))
  }
  return {
    residentMb,
    firstCheckpointPauseMs: first.pauseMs,
    checkpoint: summariseCalls(checkpoints),
    rollback: summariseCalls(rollbacks),
    changed: {
      pages: quantile(
        checkpoints.map(({ dirtyPages }) => dirtyPages),
        0.5,
      ),
      files: quantile(
        checkpoints.map(({ changedFiles }) => changedFiles),
        0.5,
      ),
      storedBytes: quantile(
        checkpoints.map(({ copiedBytes, layerBytes }) => copiedBytes + layerBytes),
        0.5,
      ),
    },
    guestGapMs: summarise(gapsMs),
    gapBesidePause:
      quantile(gapsMs, 0.5) /
      quantile(
        checkpoints.map(({ pauseMs }) => pauseMs),
        0.5,
      ),
    engine: {
      cpuMsPerCheckpoint: (after.cpuMs - before.cpuMs) / rounds,
      writtenBytesPerCheckpoint:
        after.writtenBytes === undefined ? undefined : (after.writtenBytes - before.writtenBytes) / rounds,
    },
    gitStatus: await measureGitStatus(sandbox, Math.min(rounds, 10)),
  }
}

function summariseCalls(calls) {
  return {
    pauseMs: summarise(calls.map(({ pauseMs }) => pauseMs)),
    callMs: summarise(calls.map(({ callMs }) => callMs)),
    engineMs: summarise(calls.map(({ engineMs }) => engineMs)),
    partsUs: Object.fromEntries(PARTS.map((part) => [part, summarise(calls.map(({ parts }) => parts[part]))])),
  }
}

/** The first `git status` after a checkpoint beside a warm one. */
async function measureGitStatus(sandbox, rounds) {
  const time = async () => {
    const startMs = performance.now()
    const { exitCode, stderr } = await sandbox.commands.run('git -c safe.directory="*" status --short')
    if (exitCode !== 0) throw new Error(`git status: ${stderr}`)
    return performance.now() - startMs
  }
  const warmMs = []
  const afterCheckpointMs = []
  for (let round = 0; round < rounds; round++) {
    await time()
    warmMs.push(await time())
    await sandbox.commands.run(`echo ${round} > bench-git`)
    await sandbox.checkpoint()
    afterCheckpointMs.push(await time())
  }
  return { warmMs: summarise(warmMs), afterCheckpointMs: summarise(afterCheckpointMs) }
}

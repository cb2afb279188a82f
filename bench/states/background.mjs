// What becomes durable behind the reply: processor time and bytes that the engine spends on it, per checkpoint.
import { readTotalUsage } from '../engine-usage.mjs'
import { startSession } from '../python-session.mjs'
import { summarise } from '../statistics.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { until } from './until.mjs'

const TOUCHED_PAGES = 130
const PAGE_BYTES = 4096
/** The time of threads that have ended is told in ticks of 10 ms: a fifth of a millisecond a round. */
const MIN_ROUNDS = 50

/** With the files of each checkpoint made durable alone, and with its processes. */
export async function measureBackground({ workspace, footprintMb, rounds }) {
  return {
    footprintMb,
    files: await measureDurability({ workspace, footprintMb, rounds, durability: 'files' }),
    processes: await measureDurability({ workspace, footprintMb, rounds, durability: 'processes' }),
  }
}

async function measureDurability({ workspace, footprintMb, rounds: wanted, durability }) {
  const rounds = Math.max(wanted, MIN_ROUNDS)
  return withSandbox({ workspace, durability }, async (sandbox) => {
    const session = await startSession(sandbox, footprintMb)
    const { enginePid } = await sandbox.getInfo()
    // The first one writes all of the session's memory.
    await until(sandbox, await sandbox.checkpoint(), ({ durable }) => durable)
    const before = readTotalUsage(enginePid)
    const durableMs = []
    let dirtyPages = 0
    for (let round = 0; round < rounds; round++) {
      await session.ask(`touch ${TOUCHED_PAGES}`)
      await sandbox.files.write('/workspace/bench-durable', `${round}\n`)
      const checkpoint = await sandbox.checkpoint()
      const startMs = performance.now()
      await until(sandbox, checkpoint, ({ durable }) => durable)
      durableMs.push(performance.now() - startMs)
      dirtyPages += checkpoint.dirtyPages
    }
    const after = readTotalUsage(enginePid)
    const each = (field) => (after[field] - before[field]) / rounds
    return {
      ownThreadCpuMs: each('ownThreadCpuMs'),
      backgroundCpuMs: each('backgroundCpuMs'),
      writtenBytes: each('writtenBytes'),
      dirtyBytes: (dirtyPages * PAGE_BYTES) / rounds,
      durableMs: summarise(durableMs),
    }
  })
}

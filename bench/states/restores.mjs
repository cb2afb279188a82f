import { Sandbox } from '@deltabox/core'
import { summarise } from '../statistics.mjs'
import { startSession } from '../python-session.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { until } from './until.mjs'

const TOUCHED_PAGES = 130

/**
 * The way back to a checkpoint in milliseconds: its process lives and the checkpoint is in memory (hot), or on the disk only
 * (cold); its process was killed; its engine was killed. Each from a state in which 130 pages differ.
 */
export async function measureRestores({ workspace, footprintMb, rounds }) {
  return {
    footprintMb,
    hot: await measureAlternating({ workspace, footprintMb, rounds }),
    cold: await measureAlternating({ workspace, footprintMb, rounds, hotBytes: 1 }),
    killed: await measureKilled({ workspace, footprintMb, rounds }),
    engine: await measureEngine({ workspace, footprintMb, rounds: Math.min(rounds, 5) }),
  }
}

async function measureAlternating({ workspace, footprintMb, rounds, hotBytes }) {
  return withSandbox({ workspace, ...(hotBytes !== undefined && { retention: { hotBytes } }) }, async (sandbox) => {
    const session = await startSession(sandbox, footprintMb)
    const checkpoints = []
    for (let number = 0; number < 2; number++) {
      await session.ask(`touch ${TOUCHED_PAGES}`)
      checkpoints.push(await sandbox.checkpoint())
    }
    const samples = []
    for (let round = 0; round < rounds; round++) {
      const target = checkpoints[round % 2]
      if (hotBytes !== undefined) {
        // What was read from the disk takes no memory of the engine's own: something new has to push it out.
        await session.ask(`touch ${TOUCHED_PAGES}`)
        await sandbox.checkpoint()
        await until(sandbox, target, ({ cold }) => cold)
      }
      samples.push(await timeRollback(sandbox, target))
      await session.ask('ok')
    }
    return summariseSamples(samples)
  })
}

async function measureKilled({ workspace, footprintMb, rounds }) {
  return withSandbox({ workspace }, async (sandbox) => {
    await startSession(sandbox, footprintMb)
    const checkpoint = await sandbox.checkpoint()
    const samples = []
    for (let round = 0; round < rounds; round++) {
      await sandbox.commands.run('kill -9 -1')
      samples.push(await timeRollback(sandbox, checkpoint))
    }
    return summariseSamples(samples)
  })
}

/** From the death of the engine to a connection to the sandbox, whose processes run again. */
async function measureEngine({ workspace, footprintMb, rounds }) {
  return withSandbox({ workspace, durability: 'processes' }, async (sandbox) => {
    await startSession(sandbox, footprintMb)
    const checkpoint = await sandbox.checkpoint()
    await until(sandbox, checkpoint, ({ durable }) => durable)
    const callMs = []
    for (let round = 0; round < rounds; round++) {
      const current = await Sandbox.connect(sandbox.id)
      process.kill((await current.getInfo()).enginePid, 'SIGKILL')
      const startMs = performance.now()
      const again = await Sandbox.connect(sandbox.id)
      callMs.push(performance.now() - startMs)
      if ((await again.getInfo()).tasks !== 1) throw new Error('the session did not come back')
      // Without it the files as they were last would be one more checkpoint each time.
      await again.rollback(checkpoint, { redo: false })
      again.disconnect()
    }
    return { callMs: summarise(callMs) }
  })
}

async function timeRollback(sandbox, target) {
  const startMs = performance.now()
  const { pauseMs } = await sandbox.rollback(target, { redo: false, strict: true })
  return { pauseMs, callMs: performance.now() - startMs }
}

const summariseSamples = (samples) => ({
  pauseMs: summarise(samples.map(({ pauseMs }) => pauseMs)),
  callMs: summarise(samples.map(({ callMs }) => callMs)),
})

// Checkpoint number N beside number 10: 130 pages of a Python session and one file change before each.
import { startSession } from '../python-session.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { summariseCheckpoints, WARM_UP_ROUNDS } from './calls.mjs'
import { measureFloors } from './rounds.mjs'

const FOOTPRINT_MB = 20
const TOUCHED_PAGES = 130
// So many checkpoints around number 10, and as many at the end.
const WINDOW = 15

export async function measureDepth({ workspace, depth }) {
  return withSandbox({ workspace }, async (sandbox) => {
    const session = await startSession(sandbox, FOOTPRINT_MB)
    let changes = 0
    const change = async () => {
      await session.ask(`touch ${TOUCHED_PAGES}`)
      await sandbox.files.write('/workspace/bench-depth', `${changes++}\n`)
    }
    const calls = []
    for (let number = 1; number <= depth; number++) {
      await change()
      calls.push(await sandbox.checkpoint())
    }
    const early = summariseCheckpoints(calls.slice(WARM_UP_ROUNDS, WARM_UP_ROUNDS + WINDOW))
    const late = summariseCheckpoints(calls.slice(-WINDOW))
    return {
      depth,
      early,
      late,
      floorMs: await measureFloors(sandbox, { change, rounds: WINDOW }),
      pauseRatio: late.pauseMs.p50 / early.pauseMs.p50,
      callRatio: late.callMs.p50 / early.callMs.p50,
    }
  })
}

// Rollbacks across many checkpoints: where as much differs however far it is, and where each one differs elsewhere.
import { startSession } from '../python-session.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { summariseRollbacks } from './calls.mjs'
import { measureFloors } from './rounds.mjs'

const CHANGED_PAGES = 130
const PAGES_PER_MB = 256
// The probe of the lower limits copies 65,536 pages at most, and the interpreter writes some of its own.
const MAX_FLOOR_PAGES = 65_000
const FLOOR_ROUNDS = 3

/** `distances`: how many checkpoints lie between, ascending. */
export async function measureDistance({ workspace, rounds, distances }) {
  return {
    same: await measureAcross(workspace, rounds, distances, () => 0),
    growing: await measureAcross(workspace, rounds, distances, (number) => number * CHANGED_PAGES),
  }
}

/** `firstPage(number)`: where the pages begin that change before this checkpoint. */
async function measureAcross(workspace, rounds, distances, firstPage) {
  const farthest = distances.at(-1)
  const footprintMb = Math.ceil((firstPage(farthest) + CHANGED_PAGES) / PAGES_PER_MB) + 1
  return withSandbox({ workspace }, async (sandbox) => {
    const session = await startSession(sandbox, footprintMb)
    const checkpoints = []
    for (let number = 0; number <= farthest; number++) {
      await session.ask(`write ${firstPage(number)} ${CHANGED_PAGES}`)
      await sandbox.files.write('/workspace/bench-distance', `${number}\n`)
      checkpoints.push(await sandbox.checkpoint())
    }
    const points = []
    for (const distance of distances) {
      const ends = [checkpoints.at(-1 - distance), checkpoints.at(-1)]
      const rollbacks = []
      for (let round = 0; round < rounds; round++) {
        rollbacks.push(await sandbox.rollback(ends[round % 2], { redo: false, strict: true }))
      }
      await sandbox.rollback(checkpoints.at(-1), { redo: false })
      points.push({ distance, ...summariseRollbacks(rollbacks) })
    }
    // By now what was to be measured is: these take checkpoints of their own.
    for (const point of points) {
      const pages = firstPage(point.distance) + CHANGED_PAGES
      const change = () => session.ask(`write 0 ${Math.min(pages, MAX_FLOOR_PAGES)}`)
      point.floorMs = await measureFloors(sandbox, { change, rounds: FLOOR_ROUNDS })
    }
    return points
  })
}

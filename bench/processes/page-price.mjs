// What a dirty page costs, and what a mapped GiB costs in which nothing is dirty.
import { startSession } from '../python-session.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { measureCheckpoints } from './rounds.mjs'

const FOOTPRINT_MB = 100
const MB_PER_GIB = 1024
const US_PER_MS = 1000

/** `dirtyPages`: how many, ascending; `mappedMb`: a small and a large footprint. */
export async function measurePagePrice({ workspace, rounds, dirtyPages, mappedMb }) {
  return {
    dirty: await measureDirty(workspace, rounds, dirtyPages),
    mapped: await measureMapped(workspace, rounds, mappedMb),
  }
}

async function measureDirty(workspace, rounds, counts) {
  return withSandbox({ workspace, retention: { keepLast: 2 } }, async (sandbox) => {
    const session = await startSession(sandbox, FOOTPRINT_MB)
    await sandbox.checkpoint()
    const points = []
    for (const count of counts) {
      let first = 0
      const change = async () => {
        await session.ask(`write ${first} ${count}`)
        first += count
      }
      const at = await measureCheckpoints(sandbox, { change, rounds, switchesVolume: false })
      points.push({ count, ...at, ...beside(at, points[0]) })
    }
    return points
  })
}

/** What each page more than in the first point costs, and what it costs at least. */
function beside(at, least) {
  if (least === undefined) return {}
  const pages = at.dirtyPages.p50 - least.dirtyPages.p50
  return {
    usPerPage: ((at.pauseMs.p50 - least.pauseMs.p50) * US_PER_MS) / pages,
    floorUsPerPage: ((at.floorMs.p50 - least.floorMs.p50) * US_PER_MS) / pages,
  }
}

async function measureMapped(workspace, rounds, footprintsMb) {
  const points = []
  for (const footprintMb of footprintsMb) {
    points.push(
      await withSandbox({ workspace }, async (sandbox) => {
        const session = await startSession(sandbox, footprintMb)
        const change = () => session.ask('ok')
        return { footprintMb, ...(await measureCheckpoints(sandbox, { change, rounds, switchesVolume: false })) }
      }),
    )
  }
  const [small, large] = [points[0], points.at(-1)]
  const gib = (large.footprintMb - small.footprintMb) / MB_PER_GIB
  const perGib = (field) => (large[field].p50 - small[field].p50) / gib
  return { points, msPerGib: perGib('pauseMs'), floorMsPerGib: perGib('floorMs') }
}

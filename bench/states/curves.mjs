import { Sandbox } from '@deltabox/core'
import { startSession } from './session.mjs'
import { withSandbox } from './with-sandbox.mjs'
import { diskMb, processMemory, sandboxMemory } from './usage.mjs'

const FOOTPRINT_MB = 20
const TOUCHED_PAGES = 130
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]

/** Engine memory and disk after so many checkpoints, between which 130 pages and one file change; all of them hot. */
export async function measureCheckpointCurve({ workspace, checkpoints }) {
  return withSandbox({ workspace }, async (sandbox) => {
    const session = await startSession(sandbox, FOOTPRINT_MB)
    const { enginePid } = await sandbox.getInfo()
    const points = []
    for (let number = 1; number <= checkpoints; number++) {
      await session.ask(`touch ${TOUCHED_PAGES}`)
      await sandbox.files.write('/workspace/number', `${number}\n`)
      const { pauseMs, copiedBytes } = await sandbox.checkpoint()
      if (!STEPS.includes(number)) continue
      const { pageStoreBytes } = await sandbox.getMetrics()
      points.push({
        checkpoints: number,
        engineMb: processMemory(enginePid).privateMb,
        pageStoreMb: pageStoreBytes / 2 ** 20,
        diskMb: diskMb([sandbox.id]),
        copiedKb: copiedBytes / 1024,
        pauseMs,
      })
    }
    return points
  })
}

/** So many sandboxes at once, each with a session of its own: what one of them takes, and all. */
export async function measureSandboxCurve({ workspace, sandboxes }) {
  const running = []
  const points = []
  try {
    for (let number = 1; number <= sandboxes; number++) {
      const sandbox = await Sandbox.create({ workspace })
      running.push(sandbox)
      await startSession(sandbox, FOOTPRINT_MB)
      await sandbox.checkpoint()
      if (![1, 2, 5, 10, 20, 50].includes(number)) continue
      const each = await Promise.all(running.map(sandboxMemory))
      const sum = (field) => each.map((one) => one[field]).reduce((all, one) => all + one, 0)
      points.push({
        sandboxes: number,
        processesMb: sum('processesMb') / number,
        engineMb: sum('engineMb') / number,
        diskMb: diskMb(running.map(({ id }) => id)) / number,
      })
    }
  } finally {
    for (const sandbox of running) await sandbox.kill()
  }
  return points
}

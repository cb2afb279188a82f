import { Sandbox, setHotBudget } from '@deltabox/core'
import { startSession } from '../python-session.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { diskMb, processMemory, sandboxMemory } from '../memory-usage.mjs'

const FOOTPRINT_MB = 20
const TOUCHED_PAGES = 130
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000]
const SANDBOX_STEPS = [1, 2, 5, 10, 20, 30, 40, 50]
const FORK_COUNT = 4
const FOOTPRINT_CHECKPOINTS = 10

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
      if (!SANDBOX_STEPS.includes(number)) continue
      points.push({ sandboxes: number, ...(await meanMemory(running)) })
    }
  } finally {
    for (const sandbox of running) await sandbox.kill()
  }
  return points
}

/**
 * Of one footprint: a sandbox with ten checkpoints that are hot, the same once all but its head are cold, and forks of
 * it, each.
 */
export async function measureFootprint({ workspace, footprintMb }) {
  return withSandbox({ workspace }, async (sandbox) => {
    const session = await startSession(sandbox, footprintMb)
    for (let number = 1; number <= FOOTPRINT_CHECKPOINTS; number++) {
      await session.ask(`touch ${TOUCHED_PAGES}`)
      await sandbox.checkpoint()
    }
    const hot = await meanMemory([sandbox])
    const { sandboxes: forks } = await sandbox.fork({ count: FORK_COUNT })
    try {
      const forked = await meanMemory(forks)
      return { footprintMb, hot, forked, cold: await coldMemory(sandbox) }
    } finally {
      for (const fork of forks) await fork.kill()
    }
  })
}

async function coldMemory(sandbox) {
  await setHotBudget(1)
  try {
    while (!(await isCold(sandbox))) await new Promise((resolve) => setTimeout(resolve, 50))
    return await meanMemory([sandbox])
  } finally {
    await setHotBudget(null)
  }
}

async function isCold(sandbox) {
  const { checkpoints, head } = await sandbox.listCheckpoints()
  return checkpoints.every(({ id, cold }) => cold || id === head)
}

async function meanMemory(sandboxes) {
  const each = await Promise.all(sandboxes.map(sandboxMemory))
  const mean = (field) => each.map((one) => one[field]).reduce((all, one) => all + one, 0) / each.length
  const means = Object.fromEntries(Object.keys(each[0]).map((field) => [field, mean(field)]))
  return { ...means, diskMb: diskMb(sandboxes.map(({ id }) => id)) / each.length }
}

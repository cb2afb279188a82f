// Rounds of checkpoints and of rollbacks, and between them the lower limits of the same change by bare system calls.
import { FloorProbe, sandboxPids } from '../floor-probe.mjs'
import { summarise } from '../statistics.mjs'
import { summariseCheckpoints, summariseRollbacks, WARM_UP_ROUNDS } from './calls.mjs'

/** `change` comes before each; `switchesVolume`: whether it changes files. */
export async function measureCheckpoints(sandbox, { change, rounds, switchesVolume = true }) {
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    await change()
    await sandbox.checkpoint()
  }
  const checkpoints = []
  const floors = await withProbe(sandbox, switchesVolume, async (probe) => {
    for (let round = 0; round < rounds; round++) {
      await change()
      checkpoints.push(await sandbox.checkpoint())
      await change()
      await probe()
      await sandbox.checkpoint()
    }
  })
  return { ...summariseCheckpoints(checkpoints), floorMs: summarise(floors) }
}

/** From a changed state to one checkpoint; `verify` looks whether that came back. */
export async function measureRollbacks(sandbox, { change, verify = () => {}, rounds, redo, switchesVolume = true }) {
  const target = await sandbox.checkpoint()
  const rollbacks = []
  const floors = await withProbe(sandbox, switchesVolume, async (probe) => {
    for (let round = 0; round < rounds; round++) {
      await change()
      rollbacks.push(await sandbox.rollback(target, { redo, strict: true }))
      await verify()
      await change()
      await probe()
      await sandbox.rollback(target, { redo: false, strict: true })
    }
  })
  return { ...summariseRollbacks(rollbacks), floorMs: summarise(floors) }
}

/** The lower limits of a pause after this change, in milliseconds. */
export async function measureFloors(sandbox, { change, rounds, switchesVolume = true }) {
  const floors = await withProbe(sandbox, switchesVolume, async (probe) => {
    for (let round = 0; round < rounds; round++) {
      await change()
      await probe()
      await sandbox.checkpoint()
    }
  })
  return summarise(floors)
}

/** Gives `use` a function that takes the lower limits of a pause at this moment; answers all of them, in milliseconds. */
async function withProbe(sandbox, switchesVolume, use) {
  const { enginePid } = await sandbox.getInfo()
  const probe = new FloorProbe(1, sandboxPids(enginePid))
  const floorsMs = []
  try {
    await use(async () => {
      const { sumUs, switchUs } = await probe.measure()
      floorsMs.push((switchesVolume ? sumUs : sumUs - switchUs) / 1000)
    })
    return floorsMs
  } finally {
    probe.end()
  }
}

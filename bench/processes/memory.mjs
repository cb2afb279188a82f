// How much the engine's memory grows with each checkpoint, beside what changed.
import { processMemory } from '../memory-usage.mjs'
import { startSession } from '../python-session.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { startHttpServer } from './start-guest.mjs'

const FOOTPRINT_MB = 20
const TOUCHED_PAGES = 130
// The engine keeps memory ready ahead of need; by then it has what it keeps.
const SETTLING_CHECKPOINTS = 20
const PAGE_BYTES = 4096
const MIB = 1 << 20

/** May be taken by a checkpoint at most: its pages with a tenth on top, their entries, and its threads' state. */
const limitBytes = ({ dirtyPages, threads }) => 1.1 * PAGE_BYTES * dirtyPages + 512 * dirtyPages + 8192 * threads

export async function measureMemory({ workspace, checkpoints }) {
  const session = await withSandbox({ workspace }, async (sandbox) => {
    const python = await startSession(sandbox, FOOTPRINT_MB)
    return measureGrowth(sandbox, checkpoints, () => python.ask(`touch ${TOUCHED_PAGES}`))
  })
  const nodeServer = await withSandbox({ workspace }, async (sandbox) => {
    const { connect } = await startHttpServer(sandbox)
    const client = await connect()
    return measureGrowth(sandbox, checkpoints, () => client.ask('get'))
  })
  return { session, nodeServer }
}

async function measureGrowth(sandbox, checkpoints, change) {
  const { enginePid } = await sandbox.getInfo()
  for (let number = 0; number < SETTLING_CHECKPOINTS; number++) {
    await change()
    await sandbox.checkpoint()
  }
  const beforeMb = processMemory(enginePid).proportionalMb
  let mayGrow = 0
  let dirtyPages = 0
  let threads = 0
  for (let number = 0; number < checkpoints; number++) {
    await change()
    const checkpoint = await sandbox.checkpoint()
    mayGrow += limitBytes(checkpoint)
    dirtyPages += checkpoint.dirtyPages
    threads += checkpoint.threads
  }
  const grownBytes = (processMemory(enginePid).proportionalMb - beforeMb) * MIB
  return {
    checkpoints,
    dirtyPages: dirtyPages / checkpoints,
    threads: threads / checkpoints,
    grownBytes: grownBytes / checkpoints,
    limitBytes: mayGrow / checkpoints,
    besideLimit: grownBytes / mayGrow,
  }
}

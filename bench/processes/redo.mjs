// A rollback with and without the safety checkpoint that makes it undoable.
import { startSession } from '../python-session.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { measureRollbacks } from './rounds.mjs'

const FOOTPRINT_MB = 200
const TOUCHED_PAGES = 130

export async function measureRedo({ workspace, rounds }) {
  return withSandbox({ workspace }, async (sandbox) => {
    const session = await startSession(sandbox, FOOTPRINT_MB)
    let changes = 0
    const change = async () => {
      await session.ask(`touch ${TOUCHED_PAGES}`)
      await sandbox.files.write('/workspace/bench-redo', `${changes++}\n`)
    }
    await change()
    return {
      on: await measureRollbacks(sandbox, { change, rounds, redo: true }),
      off: await measureRollbacks(sandbox, { change, rounds, redo: false }),
    }
  })
}

// The same change (130 pages of a Python session, ten files of the project) kept and taken back in other ways.
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { attemptAll } from '../attempt.mjs'
import { startSession } from '../python-session.mjs'
import { CHANGED_FILES, copyTree, measureTree, shadowGit } from '../tree-methods.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { measureContainer } from './container.mjs'
import { measureCriu } from './criu.mjs'
import { measureCheckpoints, measureRollbacks } from './rounds.mjs'

const TOUCHED_PAGES = 130
const TMPFS = '/dev/shm'

/** `criu`, `runc`: the programs, where there are any. Trees are kept in memory, as CRIU's images are. */
export function measurePeers({ workspace, rounds, footprintsMb, criu, runc }) {
  return attemptAll({
    deltabox: () => measureDeltabox(workspace, rounds, footprintsMb),
    criu: () => withMemoryDir((dir) => measureCriu({ criu, dir, workspace, rounds, footprintsMb })),
    container: () => withMemoryDir((dir) => measureContainer({ runc, criu, dir, workspace, rounds, footprintsMb })),
    copy: () =>
      withMemoryDir((dir) => measureTree(workspace, join(dir, 'tree'), rounds, (tree) => copyTree(tree, 'never'))),
    shadowGit: () => withMemoryDir((dir) => measureTree(workspace, join(dir, 'tree'), rounds, shadowGit)),
  })
}

async function withMemoryDir(use) {
  const dir = mkdtempSync(join(TMPFS, 'deltabox-bench-'))
  try {
    return await use(dir)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

async function measureDeltabox(workspace, rounds, footprintsMb) {
  const points = []
  for (const footprintMb of footprintsMb) {
    points.push(
      await withSandbox({ workspace }, async (sandbox) => {
        const session = await startSession(sandbox, footprintMb)
        let changes = 0
        const change = async () => {
          await session.ask(`touch ${TOUCHED_PAGES}`)
          await sandbox.commands.run(`for i in {1..${CHANGED_FILES}}; do echo ${changes++} > bench-$i; done`)
        }
        return {
          footprintMb,
          checkpoint: await measureCheckpoints(sandbox, { change, rounds }),
          rollback: await measureRollbacks(sandbox, { change, rounds, redo: true }),
        }
      }),
    )
  }
  return { points }
}

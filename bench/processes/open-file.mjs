// A large file that a program holds open for writing, of which one page changes before each call.
import { summarise } from '../statistics.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { measureCheckpoints, measureRollbacks } from './rounds.mjs'
import { startGuest } from './start-guest.mjs'

export async function measureOpenFile({ workspace, rounds, fileMb }) {
  const points = []
  for (const mb of fileMb) {
    points.push(
      await withSandbox({ workspace }, async (sandbox) => {
        const program = await startGuest(sandbox, ['python3', '-u'], 'open-file.py', [mb])
        await program.ask('changed?')
        // The first one that finds the file open.
        const { pauseMs, callMs } = await sandbox.checkpoint()
        const change = () => program.ask('change')
        return {
          mb,
          first: { pauseMs: summarise([pauseMs]), callMs: summarise([callMs]) },
          checkpoint: await measureCheckpoints(sandbox, { change, rounds }),
          rollback: await measureRollbacks(sandbox, { change, rounds, redo: false }),
        }
      }),
    )
  }
  return points
}

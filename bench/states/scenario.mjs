// All measurements of states, one after the other.
import { measureBackground } from './background.mjs'
import { measureCheckpointCurve, measureFootprint, measureSandboxCurve } from './curves.mjs'
import { measureForks } from './forks.mjs'
import { measureRestores } from './restores.mjs'

const FOOTPRINTS_MB = [20, 50, 100, 200, 500, 1000]

/** `residentMb`: footprints; `forks`: how many at a time; `checkpoints` and `sandboxes`: where the curves end. */
export async function runStatesScenario({ workspace, rounds, residentMb, forks, checkpoints, sandboxes }) {
  const results = { restores: [], forks: [], background: [] }
  for (const footprintMb of residentMb) {
    console.error(`measuring restores, forks and the background of ${footprintMb} MB …`)
    results.restores.push(await measureRestores({ workspace, footprintMb, rounds: Math.min(rounds, 10) }))
    results.forks.push(await measureForks({ workspace, footprintMb, count: footprintMb > 500 ? 4 : forks }))
    results.background.push(await measureBackground({ workspace, footprintMb, rounds }))
  }
  console.error('measuring the curves of memory and disk …')
  results.checkpointCurve = await measureCheckpointCurve({ workspace, checkpoints })
  results.footprintCurve = []
  for (const footprintMb of FOOTPRINTS_MB) {
    results.footprintCurve.push(await measureFootprint({ workspace, footprintMb }))
  }
  results.sandboxCurve = await measureSandboxCurve({ workspace, sandboxes })
  return results
}

// All measurements of files, one sandbox at a time.
import { measureDepth } from './depth.mjs'
import { measurePauses } from './pauses.mjs'
import { measurePeers } from './peers.mjs'
import { measureStarts } from './starts.mjs'
import { measureWork } from './work.mjs'
import { measureWritten } from './written.mjs'

/** `workspace`: the project; `scratch`: a directory on the state directory's disk for what is measured outside. */
export async function runFilesScenario({ workspace, scratch, rounds, manyFiles, depth }) {
  const parts = {
    pauses: () => measurePauses({ workspace, rounds, manyFiles }),
    depth: () => measureDepth({ workspace, depth }),
    starts: () => measureStarts({ workspace, scratch, rounds }),
    work: () => measureWork({ workspace, scratch, rounds: Math.min(rounds, 5) }),
    written: () => measureWritten({ workspace, rounds: Math.min(rounds, 20) }),
    peers: () => measurePeers({ workspace, scratch, rounds: Math.min(rounds, 10) }),
  }
  const results = {}
  for (const [name, measure] of Object.entries(parts)) {
    console.error(`measuring ${name} …`)
    results[name] = await measure()
  }
  return results
}

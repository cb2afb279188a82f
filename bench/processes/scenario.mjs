// All measurements of processes, one after the other.
import { attemptAll } from '../attempt.mjs'
import { measureAgent } from './agent.mjs'
import { measureDepth } from './depth.mjs'
import { measureDistance } from './distance.mjs'
import { measureMemory } from './memory.mjs'
import { measureNodeServer } from './node-server.mjs'
import { measureOpenFile } from './open-file.mjs'
import { measurePagePrice } from './page-price.mjs'
import { measurePeers } from './peers.mjs'
import { measurePostgres } from './postgres.mjs'
import { measureRedo } from './redo.mjs'
import { measureSlowdown } from './slowdown.mjs'
import { measureUnchanged } from './unchanged.mjs'

// Full dumps, and copies of the whole tree, take their time.
const MAX_PEER_ROUNDS = 7
const MAX_PAGE_ROUNDS = 20

/** `sizes`: the flags of `run.mjs`, read. */
export async function runProcessesScenario({ workspace, rounds, sizes }) {
  const pageRounds = Math.min(rounds, MAX_PAGE_ROUNDS)
  const peerRounds = Math.min(rounds, MAX_PEER_ROUNDS)
  const { depth, distances, dirtyPages, mappedMb, rates, seconds, writerMb, footprintsMb, criu, runc } = sizes
  const parts = {
    unchanged: () => measureUnchanged({ workspace, rounds }),
    nodeServer: () => measureNodeServer({ workspace, rounds }),
    postgres: () => measurePostgres({ workspace, rounds }),
    openFile: () => measureOpenFile({ workspace, rounds: peerRounds, fileMb: sizes.fileMb }),
    depth: () => measureDepth({ workspace, depth }),
    distance: () => measureDistance({ workspace, rounds: pageRounds, distances }),
    memory: () => measureMemory({ workspace, checkpoints: sizes.memoryCheckpoints }),
    pagePrice: () => measurePagePrice({ workspace, rounds: pageRounds, dirtyPages, mappedMb }),
    redo: () => measureRedo({ workspace, rounds }),
    slowdown: () => measureSlowdown({ workspace, rates, seconds, memoryMb: writerMb }),
    agent: () => measureAgent({ workspace, sessions: sizes.sessions, latencyMs: sizes.latencyMs }),
    peers: () => measurePeers({ workspace, rounds: peerRounds, footprintsMb, criu, runc }),
  }
  const announced = Object.entries(parts)
    .filter(([name]) => sizes.parts === undefined || sizes.parts.includes(name))
    .map(([name, measure]) => [
      name,
      () => {
        console.error(`measuring ${name} …`)
        return measure()
      },
    ])
  return attemptAll(Object.fromEntries(announced))
}

// Checkpoints of a sandbox in which nothing happens.
import { LineSession } from '../line-session.mjs'
import { summarise } from '../statistics.mjs'
import { withSandbox } from '../with-sandbox.mjs'
import { measureCheckpoints } from './rounds.mjs'
import { startHttpServer } from './start-guest.mjs'

const SETTINGS = {
  nothing: () => {},
  shell: startShell,
  shellAndPython: async (sandbox) => {
    await startShell(sandbox)
    const python = await LineSession.start(sandbox, ['python3', '-i', '-q', '-u'])
    await python.ask('print("ready")')
  },
  nodeServer: async (sandbox) => {
    const { connect } = await startHttpServer(sandbox)
    await (await connect()).ask('once')
  },
}

async function startShell(sandbox) {
  const shell = await LineSession.start(sandbox, ['bash'])
  await shell.ask('echo ready')
}

export async function measureUnchanged({ workspace, rounds }) {
  const results = {}
  for (const [name, start] of Object.entries(SETTINGS)) {
    results[name] = await withSandbox({ workspace }, async (sandbox) => {
      await start(sandbox)
      const change = () => {}
      return {
        ...(await measureCheckpoints(sandbox, { change, rounds, switchesVolume: false })),
        requestMs: summarise(await timeRequests(sandbox, rounds)),
      }
    })
  }
  return results
}

/** The lower limit of any call: one that only asks. */
async function timeRequests(sandbox, rounds) {
  const samples = []
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now()
    await sandbox.getInfo()
    samples.push(performance.now() - startMs)
  }
  return samples
}

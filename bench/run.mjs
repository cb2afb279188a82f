// Measures, prints a table and keeps all figures in results/.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { renderFilesReport } from './files/report.mjs'
import { runFilesScenario } from './files/scenario.mjs'
import { renderProcessesReport } from './processes/report.mjs'
import { runProcessesScenario } from './processes/scenario.mjs'
import { readSizes, sizeFlags } from './processes/sizes.mjs'
import { makeWorkspace } from './project.mjs'
import { renderReport } from './report.mjs'
import { runSessionScenario } from './session-scenario.mjs'
import { renderStatesReport } from './states/report.mjs'
import { runStatesScenario } from './states/scenario.mjs'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    'resident-mb': { type: 'string', default: '30,200,1024' },
    json: { type: 'string' },
    scenario: { type: 'string', default: 'session,files,states,processes' },
    'many-files': { type: 'string', default: '100000' },
    depth: { type: 'string', default: '1000' },
    forks: { type: 'string', default: '16' },
    checkpoints: { type: 'string', default: '1000' },
    sandboxes: { type: 'string', default: '20' },
    ...sizeFlags,
  },
})

// What matters about a machine, and nothing that tells which one it is.
const machine = {
  kernel: release().split('.').slice(0, 2).join('.'),
  cpus: cpus().length,
  user: process.getuid() === 0 ? 'root' : 'ordinary',
}

function resultsFile(date) {
  const name = `${date}-linux-${machine.kernel}-${machine.cpus}cpu-${machine.user}.json`
  return fileURLToPath(new URL(`./results/${name}`, import.meta.url))
}

const scenarios = values.scenario.split(',')
const rounds = Number(values.rounds)

async function runSession(workspace) {
  const results = []
  for (const residentMb of values['resident-mb'].split(',').map(Number)) {
    console.error(`measuring with ${residentMb} MB resident …`)
    const [loadBefore] = loadavg()
    results.push({ loadBefore, ...(await runSessionScenario({ workspace: workspace.dir, residentMb, rounds })) })
  }
  console.log(renderReport(results))
  return results
}

async function runFiles(workspace) {
  // On the disk where layers lie: what is compared with them has to lie there too.
  const { DELTABOX_STATE_DIR: stateDir } = process.env
  const parent = stateDir === undefined ? '/var/tmp' : dirname(resolve(stateDir))
  mkdirSync(parent, { recursive: true })
  const scratch = mkdtempSync(join(parent, 'deltabox-bench-files-'))
  try {
    const [loadBefore] = loadavg()
    const depth = Number(values.depth)
    const manyFiles = Number(values['many-files'])
    const files = await runFilesScenario({ workspace: workspace.dir, scratch, rounds, manyFiles, depth })
    console.log(renderFilesReport(files))
    return { loadBefore, ...files }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

async function runStates(workspace) {
  const [loadBefore] = loadavg()
  const states = await runStatesScenario({
    workspace: workspace.dir,
    rounds,
    residentMb: values['resident-mb'].split(',').map(Number),
    forks: Number(values.forks),
    checkpoints: Number(values.checkpoints),
    sandboxes: Number(values.sandboxes),
  })
  console.log(renderStatesReport(states))
  return { loadBefore, ...states }
}

async function runProcesses(workspace) {
  const [loadBefore] = loadavg()
  const processes = await runProcessesScenario({ workspace: workspace.dir, rounds, sizes: readSizes(values) })
  console.log(renderProcessesReport(processes))
  return { loadBefore, ...processes }
}

const workspace = makeWorkspace()
try {
  const measured = {
    ...(scenarios.includes('session') && { results: await runSession(workspace) }),
    ...(scenarios.includes('files') && { files: await runFiles(workspace) }),
    ...(scenarios.includes('states') && { states: await runStates(workspace) }),
    ...(scenarios.includes('processes') && { processes: await runProcesses(workspace) }),
  }
  const date = new Date().toISOString().slice(0, 10)
  const file = values.json ?? resultsFile(date)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, JSON.stringify({ date, ...machine, rounds, ...measured }, null, 2) + '\n')
  console.log(`all figures: ${file}`)
} finally {
  workspace.remove()
}

// Measures, prints a table and keeps all figures in results/.
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { makeWorkspace } from './project.mjs'
import { renderReport } from './report.mjs'
import { runSessionScenario } from './session-scenario.mjs'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    'resident-mb': { type: 'string', default: '30,200,1024' },
    json: { type: 'string' },
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

const workspace = makeWorkspace()
try {
  const results = []
  const rounds = Number(values.rounds)
  for (const residentMb of values['resident-mb'].split(',').map(Number)) {
    console.error(`measuring with ${residentMb} MB resident …`)
    const [loadBefore] = loadavg()
    results.push({ loadBefore, ...(await runSessionScenario({ workspace: workspace.dir, residentMb, rounds })) })
  }
  console.log(renderReport(results))
  const date = new Date().toISOString().slice(0, 10)
  const file = values.json ?? resultsFile(date)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, JSON.stringify({ date, ...machine, rounds, results }, null, 2) + '\n')
  console.log(`all figures: ${file}`)
} finally {
  workspace.remove()
}

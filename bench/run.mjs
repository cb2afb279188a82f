// Measures, prints a table, and with --json keeps all figures.
import { writeFileSync } from 'node:fs'
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

const workspace = makeWorkspace()
try {
  const results = []
  for (const residentMb of values['resident-mb'].split(',').map(Number)) {
    console.error(`measuring with ${residentMb} MB resident …`)
    results.push(await runSessionScenario({ workspace: workspace.dir, residentMb, rounds: Number(values.rounds) }))
  }
  console.log(renderReport(results))
  if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(results, null, 2) + '\n')
} finally {
  workspace.remove()
}

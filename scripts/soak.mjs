// The model tests for as long as wanted:
//   npm run soak -- [--of files|processes] [--seed N] [--minutes M | --steps N] [--events FILE] [--shrink]
// Of processes the steps are events (checkpoints, rollbacks, kills, forks, changes).
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { rootDir, run } from './run.mjs'

const { values } = parseArgs({
  options: {
    of: { type: 'string', default: 'files' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    steps: { type: 'string' },
    // Makes a failed run as short as it gets within some minutes.
    shrink: { type: 'boolean', default: false },
    // Repeats the events of a failure.json.
    events: { type: 'string' },
    // Classes of operations to try that test/model/expectations.ts leaves out, with commas between.
    on: { type: 'string' },
  },
})
const soaks = { files: 'test/model/soak.ts', processes: 'test/process-model/soak.ts' }
const file = soaks[values.of]
if (file === undefined) {
  console.error(`error: --of is one of ${Object.keys(soaks).join(', ')}`)
  process.exit(2)
}
const env = {
  ...process.env,
  ...(values.seed !== undefined && { SOAK_SEED: values.seed }),
  ...(values.minutes !== undefined && { SOAK_MINUTES: values.minutes }),
  ...(values.steps !== undefined && { SOAK_STEPS: values.steps }),
  ...(values.events !== undefined && { SOAK_EVENTS: resolve(values.events) }),
  ...(values.on !== undefined && { SOAK_ON: values.on }),
  ...(values.shrink && { SOAK_SHRINK: '1' }),
}

const built = await run(process.execPath, ['scripts/bootstrap.mjs'])
if (built !== 0) process.exit(built)
const vitest = join(rootDir, 'node_modules/vitest/vitest.mjs')
const args = ['run', '--configLoader=runner', '--config', 'vitest.soak.config.ts', file]
process.exit(await run(process.execPath, [vitest, ...args], { cwd: join(rootDir, 'packages/core'), env }))

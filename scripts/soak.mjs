// The model test of files for as long as wanted: npm run soak -- [--seed N] [--minutes M | --steps N | --events FILE] [--shrink]
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { rootDir, run } from './run.mjs'

const { values } = parseArgs({
  options: {
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
const args = ['run', '--configLoader=runner', '--config', 'vitest.soak.config.ts']
process.exit(await run(process.execPath, [vitest, ...args], { cwd: join(rootDir, 'packages/core'), env }))

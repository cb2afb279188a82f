// Kills engines at random for as long as wanted: npm run crash -- [--seed N] [--runs N | --minutes M]
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { rootDir, run } from './run.mjs'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    // Seeds to run, one after the other. 100 without a time.
    runs: { type: 'string' },
    minutes: { type: 'string' },
  },
})
const env = {
  ...process.env,
  ...(values.seed !== undefined && { CRASH_SEED: values.seed }),
  ...(values.runs !== undefined && { CRASH_RUNS: values.runs }),
  ...(values.minutes !== undefined && { CRASH_MINUTES: values.minutes }),
}

const built = await run(process.execPath, ['scripts/bootstrap.mjs'])
if (built !== 0) process.exit(built)
const vitest = join(rootDir, 'node_modules/vitest/vitest.mjs')
const args = ['run', '--configLoader=runner', '--config', 'vitest.crash.config.ts']
process.exit(await run(process.execPath, [vitest, ...args], { cwd: join(rootDir, 'packages/core'), env }))

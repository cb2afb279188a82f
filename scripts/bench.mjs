// The benchmark; arguments go to bench/run.mjs.
import { run } from './run.mjs'

const built = await run(process.execPath, ['scripts/bootstrap.mjs'])
if (built !== 0) process.exit(built)
process.exit(await run(process.execPath, ['bench/run.mjs', ...process.argv.slice(2)]))

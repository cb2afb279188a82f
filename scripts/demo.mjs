// The main job on real input; arguments go to `deltabox demo`.
import { run } from './run.mjs'

const built = await run(process.execPath, ['scripts/bootstrap.mjs'])
if (built !== 0) process.exit(built)
process.exit(await run(process.execPath, ['packages/core/bin/deltabox.js', 'demo', ...process.argv.slice(2)]))

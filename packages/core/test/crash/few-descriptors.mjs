// A sandbox whose engine may open 300 descriptors only takes checkpoints until it can't. Usage: bash -c 'ulimit -n 300
// && exec node few-descriptors.mjs WORKSPACE', with DELTABOX_STATE_DIR set.
import { Sandbox } from '../../dist/index.js'

const MOST = 2000
const sandbox = await Sandbox.create({ workspace: process.argv[2] })
const attempt = (call) =>
  call().then(
    () => ({ code: 'done' }),
    (error) => ({ code: error.code, nextStep: error.nextStep }),
  )
const known = []
let failure = { code: 'done' }
for (let n = 0; n < MOST && failure.code === 'done'; n++) {
  failure = await attempt(async () => {
    await sandbox.files.write('number', String(n))
    known.push((await sandbox.checkpoint()).id)
  })
}
const rollback = await attempt(() => sandbox.rollback(known[1], { redo: false }))
for (const id of known.slice(10, -10)) await sandbox.deleteCheckpoint(id)
const later = {}
for (const n of [1, known.length - 1]) {
  await sandbox.rollback(known[n], { redo: false })
  later[n] = await sandbox.files.read('number')
}
const checkpoint = await attempt(() => sandbox.checkpoint())
await sandbox.kill()
console.log(JSON.stringify({ taken: known.length, failure, rollback, later, checkpoint }))

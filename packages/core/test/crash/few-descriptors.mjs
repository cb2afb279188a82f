// A sandbox whose engine may open 300 descriptors only: takes many checkpoints, then starts commands until it can't.
// Usage: bash -c 'ulimit -n 300 && exec node few-descriptors.mjs WORKSPACE', with DELTABOX_STATE_DIR set.
import { setTimeout } from 'node:timers/promises'
import { Sandbox } from '../../dist/index.js'

const CHECKPOINTS = 1200
const MOST_COMMANDS = 300

/** Holds a file without a name open, and writes each line to it. */
const HOLDER = `
import os, sys
held = open('/workspace/held', 'w+')
os.remove('/workspace/held')
for line in sys.stdin:
    if line == 'tell\\n':
        held.seek(0)
    else:
        held.seek(0)
        held.truncate()
        held.write(line)
        held.flush()
        held.seek(0)
    print(held.read(), end='', flush=True)
`

const sandbox = await Sandbox.create({ workspace: process.argv[2] })
const holder = await sandbox.commands.run(['python3', '-u', '-c', HOLDER], { background: true })
async function tell(line) {
  const from = holder.stdout.length
  await holder.sendStdin(`${line}\n`)
  while (!holder.stdout.slice(from).endsWith('\n')) await setTimeout(1)
  return holder.stdout.slice(from).trim()
}
const attempt = (call) =>
  call().then(
    () => ({ code: 'done' }),
    (error) => ({ code: error.code, nextStep: error.nextStep }),
  )

const known = []
for (let n = 0; n < CHECKPOINTS; n++) {
  await sandbox.files.write('number', String(n))
  await tell(String(n))
  known.push((await sandbox.checkpoint()).id)
}
const later = {}
for (const n of [1, CHECKPOINTS / 2, CHECKPOINTS - 1]) {
  await sandbox.rollback(known[n], { redo: false })
  later[n] = [await sandbox.files.read('number'), await tell('tell')]
}

const commands = []
let failure = { code: 'done' }
while (failure.code === 'done' && commands.length < MOST_COMMANDS) {
  failure = await attempt(async () => {
    commands.push(await sandbox.commands.run(['sleep', '1000'], { background: true }))
    await sandbox.checkpoint()
  })
}
const rollback = await attempt(() => sandbox.rollback(known[1], { redo: false }))
for (const command of commands.slice(5)) await command.kill().catch(() => {})
const checkpoint = await attempt(() => sandbox.checkpoint())
await sandbox.rollback(known[3], { redo: false })
const last = [await sandbox.files.read('number'), await tell('tell')]
await sandbox.kill()
console.log(
  JSON.stringify({ taken: known.length, later, started: commands.length, failure, rollback, checkpoint, last }),
)

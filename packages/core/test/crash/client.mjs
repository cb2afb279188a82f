// A client that is to be killed: says what it is about to do, does it, says that it is done. Usage: node client.mjs KIND
// WORKSPACE [SANDBOX]
import { Sandbox } from '../../dist/index.js'

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)
const [, , kind, workspace, id] = process.argv
const PIECE_BYTES = 1 << 20
const PIECES = 256

if (kind === 'create') {
  for (;;) {
    const made = await Sandbox.create({ workspace })
    say({ id: made.id })
  }
}
const isMixed = kind === 'mixed'
const options = { workspace, ...(isMixed && { durability: 'processes' }) }
const sandbox = id === undefined ? await Sandbox.create(options) : await Sandbox.connect(id)
// So that checkpoints have processes to write down.
if (isMixed) await sandbox.commands.run('sleep 100000', { background: true })
say({ id: sandbox.id, enginePid: (await sandbox.getInfo()).enginePid })
const taken = []

/** Each call has a key, so that another client can say it again. */
async function checkpoint(n) {
  await sandbox.files.write('number', String(n))
  say({ doing: 'checkpoint', n })
  const { id: done } = await sandbox.checkpoint({ idempotencyKey: `key-${n}` })
  taken.push({ id: done, n })
  say({ done, n })
}

async function rollback(n) {
  const target = taken[n % taken.length]
  say({ doing: 'rollback', n, to: target.id, number: target.n })
  await sandbox.rollback(target.id, { redo: false, idempotencyKey: `key-${n}` })
  say({ done: 'rollback', n })
}

async function* pieces() {
  for (let n = 0; n < PIECES; n++) yield Buffer.alloc(PIECE_BYTES, n)
}

for (let n = 0; ; n++) {
  if (kind === 'write') {
    say({ doing: 'write', n })
    await sandbox.files.write('big', pieces())
    say({ done: 'write', n })
  } else if (kind === 'command') {
    say({ doing: 'command', n })
    await sandbox.commands.run('echo $$ > pid; exec sleep 1000')
  } else if (kind === 'checkpoint' || n % 4 !== 3) await checkpoint(n)
  else if (kind === 'rollback' || taken.length < 6) await rollback(n)
  else {
    const [gone] = taken.splice(1, 1)
    say({ doing: 'delete', n, id: gone.id })
    await sandbox.deleteCheckpoint(gone.id)
    say({ done: 'delete', n })
  }
}

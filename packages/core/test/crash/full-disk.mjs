// A sandbox on a disk of 2 MiB that fills, run where it may mount one. Prints what each call came to. Usage: node
// full-disk.mjs WORKSPACE, with DELTABOX_STATE_DIR on the disk to be made.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Sandbox } from '../../dist/index.js'

const stateDir = process.env.DELTABOX_STATE_DIR
mkdirSync(stateDir, { recursive: true })
execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=0700', 'tmpfs', stateDir])
const ballast = join(stateDir, 'ballast')
const events = []
const attempt = async (what, call) => {
  const told = await call().then(
    (value) => ({ what, code: 'done', value }),
    (error) => ({ what, code: error.code ?? String(error), message: error.message, nextStep: error.nextStep }),
  )
  events.push(told)
  return told
}
const fill = () => {
  for (let bytes = 1 << 20; bytes >= 4096; bytes >>= 1) {
    for (;;) {
      try {
        writeFileSync(ballast, Buffer.alloc(bytes), { flag: 'a' })
      } catch {
        break
      }
    }
  }
}
const gone = (pid) => {
  try {
    return !/^\d+ \(deltabox-engin.*\) [^ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return true
  }
}

let sandbox = await Sandbox.create({ workspace: process.argv[2] })
await sandbox.files.write('kept', 'k'.repeat(300_000))
const { id } = await sandbox.checkpoint()
await sandbox.files.write('later', 'later')
await attempt('write', () => sandbox.files.write('big', Buffer.alloc(3 << 20)))
events.push({ what: 'names', value: (await sandbox.files.list('.')).map(({ name }) => name) })
fill()
await attempt('small write', () => sandbox.files.write('small', 'x'.repeat(10_000)))
for (let n = 0; n < 8; n++) {
  await sandbox.files.remove(n % 2 ? 'src' : 'README.md').catch(() => undefined)
  await attempt('checkpoint', () => sandbox.checkpoint({ name: `full-${n}` }).then((made) => made.id))
}
const { enginePid } = await sandbox.getInfo()
process.kill(enginePid, 'SIGKILL')
while (!gone(enginePid)) await new Promise((resolve) => setTimeout(resolve, 20))
sandbox.disconnect()
const found = await attempt('recovery', () =>
  Sandbox.connect(sandbox.id).then((made) => (sandbox = made) && 'connected'),
)
rmSync(ballast)
if (found.code !== 'done') sandbox = await Sandbox.connect(sandbox.id)
events.push({ what: 'kept', value: (await sandbox.files.read('kept')).length })
events.push({ what: 'later', value: await sandbox.files.read('later') })
events.push({ what: 'warnings', value: (await sandbox.getInfo()).warnings })
const { checkpoints } = await sandbox.listCheckpoints()
events.push({ what: 'listed', value: checkpoints.map((checkpoint) => checkpoint.id) })
await attempt('write with space', () => sandbox.files.write('small', 'fits'))
await attempt('checkpoint with space', () => sandbox.checkpoint().then((made) => made.id))
await attempt('rollback with space', () => sandbox.rollback(id).then(() => sandbox.files.read('README.md')))
await sandbox.kill()
process.stdout.write(JSON.stringify(events))

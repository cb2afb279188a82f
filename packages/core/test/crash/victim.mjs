// Takes checkpoints until it is killed, and prints what each holds and which are durable. Usage: node victim.mjs WORKSPACE
import { createHash, randomBytes } from 'node:crypto'
import { Sandbox } from '../../dist/index.js'

// Until it is in the pipe: what still waits in this process would go with it, and what follows would not have been said.
const say = (line) => new Promise((resolve) => process.stdout.write(`${JSON.stringify(line)}\n`, resolve))
const hash = (data) => createHash('sha256').update(data).digest('hex')
const MOST_FILES = 12

const sandbox = await Sandbox.create({ workspace: process.argv[2] })
await say({ id: sandbox.id, enginePid: (await sandbox.getInfo()).enginePid })
let files = { '/workspace/README.md': hash('# a project\n'), '/workspace/src/main.txt': hash('original\n') }
const saved = []
// Open for writing all the time: its inode goes over, the sealed layers get copies.
const holder = await sandbox.commands.run('exec 3>>held; while read line; do echo $line >&3; done', {
  background: true,
  stdin: true,
})
let held = ''
for (let n = 0; ; n++) {
  for (let count = 0; count < 3; count++) {
    const path = `${n % 2 ? '/tmp' : '/workspace/src'}/f${(n + count) % MOST_FILES}`
    const data = randomBytes([17, 5000, 300_000][count])
    await sandbox.files.write(path, data)
    files = { ...files, [path]: hash(data) }
  }
  if (n % 5 === 4) {
    const gone = Object.keys(files)[n % Object.keys(files).length]
    if (gone !== '/workspace/held') {
      await sandbox.files.remove(gone)
      const { [gone]: _, ...rest } = files
      files = rest
    }
  }
  held += `${n}\n`
  await sandbox.commands.sendStdin(holder.commandId, `${n}\n`)
  while ((await sandbox.files.read('held').catch(() => '')) !== held)
    await new Promise((resolve) => setTimeout(resolve, 2))
  files = { ...files, '/workspace/held': hash(held) }
  await say({ next: files })
  const { id } = await sandbox.checkpoint()
  saved.push({ id, files, held })
  await say({ id, files })
  // Now and then another branch.
  if (n % 6 === 5) {
    const target = saved[n >> 1]
    await sandbox.rollback(target.id, { redo: false })
    ;({ files, held } = target)
    await say({ head: target.id })
  }
  const { checkpoints } = await sandbox.listCheckpoints()
  await say({ durable: checkpoints.filter(({ durable }) => durable).map((checkpoint) => checkpoint.id) })
}

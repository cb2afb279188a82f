// A Python session outside any sandbox, dumped in full to memory and restored (CRIU has no deltas where the kernel has no soft-dirty
// bit), alone and together with a copy of the project.
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { summarise } from '../statistics.mjs'
import { copyTree, sh } from '../tree-methods.mjs'

const guests = fileURLToPath(new URL('guests', import.meta.url))
const TIMEOUT_MS = 20_000
const POLL_MS = 5

/**
 * `dir`: in memory. `makeSession(command, dirs)` answers how that command is started, dumped, restored and ended, and which
 * process it is; `dirs.guests` is read by it, `dirs.shared` written. A rollback's time is that of the restore: ending the
 * session first is not counted.
 */
export async function measureDumps({ dir, workspace, footprintsMb, rounds, makeSession }) {
  const tree = join(dir, 'tree')
  sh('cp', '-a', workspace, tree)
  const points = []
  for (const footprintMb of footprintsMb)
    points.push(await measureFootprint({ dir, tree, footprintMb, rounds, makeSession }))
  return points
}

async function measureFootprint({ dir, tree, footprintMb, rounds, makeSession }) {
  const shared = join(dir, 'shared')
  mkdirSync(shared)
  const counter = join(shared, 'count')
  const command = ['python3', join(guests, 'signal-session.py'), String(footprintMb), counter]
  const session = makeSession(command, { guests, shared })
  const readCount = () => (existsSync(counter) ? Number(readFileSync(counter, 'utf8')) : undefined)
  const change = async (count) => {
    process.kill(session.pid(), 'SIGUSR1')
    await until(() => readCount() === count)
  }
  const copies = copyTree(tree, 'never')
  const samples = { dumpMs: [], dumpAndCopyMs: [], restoreMs: [], restoreAndCopyMs: [] }
  let count = 0
  try {
    session.start()
    await until(() => readCount() === count)
    for (let round = 0; round < rounds; round++) {
      const image = join(dir, 'image')
      mkdirSync(image)
      const dumpMs = time(() => session.dump(image))
      const copyMs = time(() => copies.checkpoint(round))
      await change(count + 1)
      await change(count + 2)
      await kill(session.pid())
      session.clear?.()
      const backMs = time(() => copies.rollback(round))
      const restoreMs = time(() => session.restore(image))
      // It goes on from where it was at the dump.
      await change(count + 1)
      count += 1
      samples.dumpMs.push(dumpMs)
      samples.dumpAndCopyMs.push(dumpMs + copyMs)
      samples.restoreMs.push(restoreMs)
      samples.restoreAndCopyMs.push(restoreMs + backMs)
      copies.forget(round)
      rmSync(image, { recursive: true })
    }
  } finally {
    session.end()
    rmSync(shared, { recursive: true })
  }
  return { footprintMb, ...Object.fromEntries(Object.entries(samples).map(([name, ms]) => [name, summarise(ms)])) }
}

async function kill(pid) {
  process.kill(pid, 'SIGKILL')
  await until(() => !existsSync(`/proc/${pid}`))
}

function time(action) {
  const startMs = performance.now()
  action()
  return performance.now() - startMs
}

async function until(holds) {
  const endMs = performance.now() + TIMEOUT_MS
  while (!holds()) {
    if (performance.now() > endMs) throw new Error('the session did not go on')
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

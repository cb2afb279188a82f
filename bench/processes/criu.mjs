// CRIU on a Python session outside any sandbox: full dumps to memory (it has no deltas where the kernel has no soft-dirty bit)
// and restores, alone and together with a copy of the project.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { summarise } from '../statistics.mjs'
import { copyTree, sh } from '../tree-methods.mjs'

const guest = fileURLToPath(new URL('guests/signal-session.py', import.meta.url))
const TIMEOUT_MS = 20_000
const POLL_MS = 5

/** `dir`: in memory. A rollback's time is that of the restore: ending the session first is not counted. */
export async function measureCriu({ criu, dir, workspace, footprintsMb, rounds }) {
  if (process.getuid() !== 0) throw new Error('CRIU needs root')
  const version = /^Version: (\S+)/m.exec(execFileSync(criu, ['--version'], { encoding: 'utf8' }))?.[1]
  sh(criu, 'check')
  const tree = join(dir, 'tree')
  sh('cp', '-a', workspace, tree)
  const points = []
  for (const footprintMb of footprintsMb) points.push(await measureFootprint({ criu, dir, tree, footprintMb, rounds }))
  return { version, points }
}

async function measureFootprint({ criu, dir, tree, footprintMb, rounds }) {
  const counter = join(dir, 'count')
  const session = spawn('python3', [guest, String(footprintMb), counter], { detached: true, stdio: 'ignore' })
  const { pid } = session
  const readCount = () => (existsSync(counter) ? Number(readFileSync(counter, 'utf8')) : undefined)
  const change = async (count) => {
    process.kill(pid, 'SIGUSR1')
    await until(() => readCount() === count)
  }
  const copies = copyTree(tree, 'never')
  const samples = { dumpMs: [], dumpAndCopyMs: [], restoreMs: [], restoreAndCopyMs: [] }
  let count = 0
  try {
    await until(() => readCount() === count)
    for (let round = 0; round < rounds; round++) {
      const image = join(dir, 'image')
      mkdirSync(image)
      const dumpMs = time(() => sh(criu, 'dump', '-t', String(pid), '-D', image, '-o', 'dump.log', '-R'))
      const copyMs = time(() => copies.checkpoint(round))
      await change(count + 1)
      await change(count + 2)
      process.kill(pid, 'SIGKILL')
      await until(() => !existsSync(`/proc/${pid}`))
      const backMs = time(() => copies.rollback(round))
      const restoreMs = time(() => sh(criu, 'restore', '-D', image, '-o', 'restore.log', '-d'))
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
    if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL')
    rmSync(counter, { force: true })
  }
  return { footprintMb, ...Object.fromEntries(Object.entries(samples).map(([name, ms]) => [name, summarise(ms)])) }
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

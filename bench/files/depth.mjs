// Checkpoint number N beside number 10, and how long it takes to look at every file of the project at that depth.
import { Sandbox } from '@deltabox/core'
import { summarise } from '../statistics.mjs'

const WINDOW = 10
const LOOK = `
import os, time
def look():
    begin = time.perf_counter()
    count = 0
    for parent, dirs, files in os.walk("."):
        for name in files:
            os.lstat(os.path.join(parent, name)); count += 1
    return (time.perf_counter() - begin) * 1e6 / count
print(look(), look())`

export async function measureDepth({ workspace, depth }) {
  const sandbox = await Sandbox.create({ workspace })
  try {
    const early = await measureAround(sandbox, 1, WINDOW)
    let reached = WINDOW
    try {
      while (reached < depth - WINDOW) await changeAndCheckpoint(sandbox, ++reached)
    } catch (error) {
      if (error?.code !== 'TOO_LARGE') throw error
      return { early, reached, stoppedBy: error.message }
    }
    const late = await measureAround(sandbox, reached + 1, reached + WINDOW)
    return {
      early,
      late,
      reached: reached + WINDOW,
      pauseRatio: late.pauseUs.p50 / early.pauseUs.p50,
      callRatio: late.callMs.p50 / early.callMs.p50,
      coldLookupRatio: late.coldUsPerFile / early.coldUsPerFile,
    }
  } finally {
    await sandbox.kill()
  }
}

async function measureAround(sandbox, first, last) {
  const calls = []
  for (let number = first; number <= last; number++) calls.push(await changeAndCheckpoint(sandbox, number))
  const { stdout, exitCode, stderr } = await sandbox.commands.run(['python3', '-c', LOOK])
  if (exitCode !== 0) throw new Error(stderr)
  const [coldUsPerFile, warmUsPerFile] = stdout.trim().split(' ').map(Number)
  return {
    number: last,
    pauseUs: summarise(calls.map(({ pauseMs }) => pauseMs * 1000)),
    callMs: summarise(calls.map(({ callMs }) => callMs)),
    coldUsPerFile,
    warmUsPerFile,
  }
}

async function changeAndCheckpoint(sandbox, number) {
  await sandbox.commands.run(`echo ${number} > bench-${number % 10}`)
  return sandbox.checkpoint()
}

// Pauses of a sandbox without processes of its own, beside the bare system calls of the same run.
import { Sandbox } from '@deltabox/core'
import { FloorProbe } from '../floor-probe.mjs'
import { LineSession } from '../line-session.mjs'
import { quantile, summarise } from '../statistics.mjs'

const FEW_FILES = 10
const MANY_ROUNDS = 3

export async function measurePauses({ workspace, rounds, manyFiles }) {
  const few = await measureWriting(workspace, FEW_FILES, rounds)
  const many = await measureWriting(workspace, manyFiles, MANY_ROUNDS)
  const { idle, withSessions } = await measureUnchanged(workspace, rounds)
  return { few, many, manyBesideFew: many.checkpoint.pauseUs.p50 / few.checkpoint.pauseUs.p50, idle, withSessions }
}

/** Checkpoints after so many new files, and rollbacks from a state with as many more. */
async function measureWriting(workspace, files, rounds) {
  const sandbox = await Sandbox.create({ workspace })
  const probe = new FloorProbe(1, [])
  try {
    const checkpoints = []
    const rollbacks = []
    const floorsUs = []
    for (let round = 0; round < rounds; round++) {
      await writeFiles(sandbox, `made-${round}`, files)
      const checkpoint = await sandbox.checkpoint()
      checkpoints.push(checkpoint)
      await writeFiles(sandbox, `undone-${round}`, files)
      rollbacks.push(await sandbox.rollback(checkpoint, { redo: false }))
      const { switchUs, rootUs } = await probe.measure()
      floorsUs.push(switchUs + rootUs)
    }
    return {
      files,
      floorUs: summarise(floorsUs),
      checkpoint: { ...summariseCalls(checkpoints), besideFloor: beside(checkpoints, floorsUs) },
      rollback: { ...summariseCalls(rollbacks), besideFloor: beside(rollbacks, floorsUs) },
    }
  } finally {
    probe.end()
    await sandbox.kill()
  }
}

/** Checkpoints of a sandbox in which nothing happens: without processes, and with a shell and a Python session. */
async function measureUnchanged(workspace, rounds) {
  const sandbox = await Sandbox.create({ workspace })
  try {
    const measure = async () => {
      const calls = []
      // The first ones settle what came before.
      for (let round = 0; round < rounds + 3; round++) calls.push(await sandbox.checkpoint())
      return summariseCalls(calls.slice(3))
    }
    const idle = await measure()
    const shell = await LineSession.start(sandbox, ['bash'])
    await shell.ask('echo ready')
    const python = await LineSession.start(sandbox, ['python3', '-i', '-q', '-u'])
    await python.ask('print("ready")')
    return { idle, withSessions: await measure() }
  } finally {
    await sandbox.kill()
  }
}

async function writeFiles(sandbox, dir, count) {
  const source = `
import os
for part in range(${Math.ceil(count / 1000)}):
    os.makedirs(f"${dir}/{part}")
    for number in range(min(1000, ${count} - part * 1000)):
        with open(f"${dir}/{part}/{number}", "w") as file: file.write("x" * 100)`
  const { exitCode, stderr } = await sandbox.commands.run(['python3', '-c', source])
  if (exitCode !== 0) throw new Error(stderr)
}

function summariseCalls(calls) {
  return {
    pauseUs: summarise(calls.map(({ pauseMs }) => pauseMs * 1000)),
    switchUs: summarise(calls.map(({ parts }) => parts.switchUs)),
    callMs: summarise(calls.map(({ callMs }) => callMs)),
  }
}

const beside = (calls, floorsUs) =>
  quantile(
    calls.map(({ pauseMs }) => pauseMs * 1000),
    0.5,
  ) / quantile(floorsUs, 0.5)

// commands.run('true') beside a plain spawn, and a new sandbox beside bare namespaces.
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Sandbox } from '@deltabox/core'
import { quantile, summarise } from '../statistics.mjs'

const namespacesProgram = fileURLToPath(
  new URL('../../packages/native/build/release/bench/deltabox-namespaces', import.meta.url),
)

export async function measureStarts({ workspace, scratch, rounds }) {
  const insideMs = []
  const shellInsideMs = []
  const spawnMs = []
  const shellSpawnMs = []
  const sandbox = await Sandbox.create({ workspace })
  try {
    for (let round = 0; round < rounds + 3; round++) {
      insideMs.push(await time(() => sandbox.commands.run(['true'])))
      spawnMs.push(await time(() => plainSpawn('true', [])))
      shellInsideMs.push(await time(() => sandbox.commands.run('true')))
      shellSpawnMs.push(await time(() => plainSpawn('/bin/bash', ['-c', 'true'])))
    }
  } finally {
    await sandbox.kill()
  }
  const createMs = []
  for (let round = 0; round < rounds; round++) {
    let made
    createMs.push(await time(async () => (made = await Sandbox.create({ workspace }))))
    await made.kill()
  }
  mkdirSync(join(scratch, 'namespaces'))
  const bare = execFileSync(namespacesProgram, [String(rounds), join(scratch, 'namespaces')], { encoding: 'utf8' })
  const namespacesMs = JSON.parse(bare).map((us) => us / 1000)
  return {
    run: compare(insideMs.slice(3), spawnMs.slice(3)),
    runInShell: compare(shellInsideMs.slice(3), shellSpawnMs.slice(3)),
    create: compare(createMs, namespacesMs),
  }
}

const compare = (ownMs, bareMs) => ({
  ownMs: summarise(ownMs),
  bareMs: summarise(bareMs),
  ratio: quantile(ownMs, 0.5) / quantile(bareMs, 0.5),
})

async function time(action) {
  const startMs = performance.now()
  await action()
  return performance.now() - startMs
}

const plainSpawn = (command, args) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    child.once('error', reject)
    child.once('close', resolve)
  })

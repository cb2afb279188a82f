// Bytes written per checkpoint after an edit of one line, from the engine's counters and the layers.
import { execFileSync } from 'node:child_process'
import { Sandbox } from '@deltabox/core'
import { readUsage } from '../engine-usage.mjs'
import { quantile } from '../statistics.mjs'

const SIZES = { small: 2 << 10, large: 4 << 20 }

export async function measureWritten({ workspace, rounds }) {
  const sandbox = await Sandbox.create({ workspace })
  try {
    const { enginePid } = await sandbox.getInfo()
    const results = { fileSystem: fileSystemOf(process.env.DELTABOX_STATE_DIR ?? '/var/lib') }
    for (const [name, sizeBytes] of Object.entries(SIZES)) {
      const file = `bench-edited-${name}`
      const make = `f = open("${file}", "wb"); [f.write(b"%09d" % n + b"x" * 90 + b"\\n") for n in range(${Math.ceil(sizeBytes / 100)})]`
      await sandbox.commands.run(['python3', '-c', make])
      await sandbox.checkpoint()
      const engineBytes = []
      const layerBytes = []
      for (let round = 0; round < rounds; round++) {
        const before = readUsage(enginePid)
        const edit = `f = open("${file}", "r+b"); f.seek(${Math.floor(sizeBytes / 2)}); f.write(b"edit %05d" % ${round})`
        await sandbox.commands.run(['python3', '-c', edit])
        const checkpoint = await sandbox.checkpoint()
        const after = readUsage(enginePid)
        engineBytes.push(after.writtenBytes - before.writtenBytes)
        layerBytes.push(checkpoint.layerBytes)
      }
      results[name] = { sizeBytes, engineBytes: quantile(engineBytes, 0.5), layerBytes: quantile(layerBytes, 0.5) }
    }
    return results
  } finally {
    await sandbox.kill()
  }
}

function fileSystemOf(path) {
  for (let at = path; ; at = at.slice(0, Math.max(at.lastIndexOf('/'), 1))) {
    try {
      return execFileSync('stat', ['-f', '-c', '%T', at], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim()
    } catch (error) {
      if (at === '/') throw error
    }
  }
}

import { summarise } from '../statistics.mjs'
import { diskMb, sandboxMemory } from '../memory-usage.mjs'
import { startSession } from '../python-session.mjs'
import { withSandbox } from '../with-sandbox.mjs'

/** N forks of one session at once: time to their making, to the first answer of each, and memory and disk of each. */
export async function measureForks({ workspace, footprintMb, count }) {
  return withSandbox({ workspace }, async (sandbox) => {
    const session = await startSession(sandbox, footprintMb)
    const expected = await session.ask('sum')
    const checkpoint = await sandbox.checkpoint()
    const { commandId } = (await sandbox.commands.list())[0]
    const lenderMb = await sandboxMemory(sandbox)
    const lenderDiskMb = diskMb([sandbox.id])
    const startMs = performance.now()
    const { sandboxes, failures } = await sandbox.fork({ from: checkpoint, count })
    const madeMs = performance.now() - startMs
    try {
      if (failures.length > 0) throw failures[0]
      const answers = await Promise.all(
        sandboxes.map(async (fork) => {
          const command = await fork.commands.connect(commandId)
          await command.sendStdin('sum\n')
          while (!command.stdout.includes('\n')) await new Promise((resolve) => setTimeout(resolve, 1))
          if (command.stdout.trim() !== expected)
            throw new Error(`a fork says ${command.stdout} instead of ${expected}`)
          return performance.now() - startMs
        }),
      )
      const each = await Promise.all(sandboxes.map(sandboxMemory))
      const forkDiskMb = diskMb([sandbox.id, ...sandboxes.map(({ id }) => id)]) - lenderDiskMb
      const againMs = await timeOneMore(sandbox, checkpoint)
      return {
        footprintMb,
        count,
        madeMs,
        oneMoreMs: againMs,
        answerMs: summarise(answers),
        lenderMb,
        forkMb: {
          processesMb: summarise(each.map(({ processesMb }) => processesMb)),
          engineMb: summarise(each.map(({ engineMb }) => engineMb)),
        },
        forksDiskMb: forkDiskMb,
      }
    } finally {
      for (const fork of sandboxes) await fork.kill()
    }
  })
}

/** The image is on the disk by now. */
async function timeOneMore(sandbox, checkpoint) {
  const startMs = performance.now()
  const { sandboxes } = await sandbox.fork({ from: checkpoint })
  const ms = performance.now() - startMs
  await sandboxes[0].kill()
  return ms
}

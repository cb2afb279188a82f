import { summarise } from './statistics.mjs'

/** The first `git status` after a checkpoint, the second, and a warm one without any checkpoint. */
export async function measureGitStatus(sandbox, rounds) {
  const time = async () => {
    const startMs = performance.now()
    const { exitCode, stderr } = await sandbox.commands.run('git -c safe.directory="*" status --short')
    if (exitCode !== 0) throw new Error(`git status: ${stderr}`)
    return performance.now() - startMs
  }
  const warmMs = []
  const firstMs = []
  const secondMs = []
  for (let round = 0; round < rounds; round++) {
    await time()
    warmMs.push(await time())
    await sandbox.commands.run(`echo ${round} > bench-git`)
    await sandbox.checkpoint()
    firstMs.push(await time())
    secondMs.push(await time())
  }
  return { warmMs: summarise(warmMs), firstMs: summarise(firstMs), secondMs: summarise(secondMs) }
}

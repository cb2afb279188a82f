// Other ways to keep a tree of files and return to it, with the same project and the same ten changed files.
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Sandbox } from '@deltabox/core'
import { attemptAll } from '../attempt.mjs'
import { summarise } from '../statistics.mjs'
import { btrfsSnapshot, CHANGED_FILES, copyTree, measureTree, sh, shadowGit } from '../tree-methods.mjs'

const LOOP_IMAGE_BYTES = 2 * 1024 ** 3

/** Per peer the times of a checkpoint and of a rollback, or why it was not run. */
export function measurePeers({ workspace, scratch, rounds }) {
  return attemptAll({
    deltabox: () => measureDeltabox(workspace, rounds),
    shadowGit: () => measureTree(workspace, join(scratch, 'git'), rounds, shadowGit),
    copy: () => measureTree(workspace, join(scratch, 'copy'), rounds, (dir) => copyTree(dir, 'never')),
    reflinkCopy: () => measureTree(workspace, join(scratch, 'reflink'), rounds, (dir) => copyTree(dir, 'auto')),
    btrfsSnapshot: () =>
      onLoop('btrfs', scratch, (dir) => measureTree(workspace, join(dir, 'tree'), rounds, btrfsSnapshot)),
    xfsReflink: () =>
      onLoop('xfs', scratch, (dir) =>
        measureTree(workspace, join(dir, 'tree'), rounds, (tree) => copyTree(tree, 'always')),
      ),
  })
}

async function measureDeltabox(workspace, rounds) {
  const sandbox = await Sandbox.create({ workspace })
  try {
    const change = (round) => sandbox.commands.run(`for i in {1..${CHANGED_FILES}}; do echo ${round} > bench-$i; done`)
    const checkpointMs = []
    const rollbackMs = []
    for (let round = 0; round < rounds; round++) {
      await change(2 * round)
      const checkpoint = await sandbox.checkpoint()
      checkpointMs.push(checkpoint.callMs)
      await change(2 * round + 1)
      rollbackMs.push((await sandbox.rollback(checkpoint, { redo: false })).callMs)
    }
    return { checkpointMs: summarise(checkpointMs), rollbackMs: summarise(rollbackMs) }
  } finally {
    await sandbox.kill()
  }
}

/** A file system of its own on a loop device; needs root, the tools and a kernel that has it. */
async function onLoop(kind, scratch, measure) {
  if (process.getuid() !== 0) throw new Error('mounting a loop device needs root')
  const image = join(scratch, `${kind}.image`)
  const place = join(scratch, `${kind}-mount`)
  mkdirSync(place)
  sh('truncate', '-s', String(LOOP_IMAGE_BYTES), image)
  sh(`mkfs.${kind}`, '-q', image)
  sh('mount', '-o', 'loop', image, place)
  try {
    return await measure(place)
  } finally {
    sh('umount', place)
    if (existsSync(image)) rmSync(image)
  }
}

// Other ways to keep a tree of files and return to it, with the same project and the same ten changed files.
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Sandbox } from '@deltabox/core'
import { summarise } from '../statistics.mjs'

const CHANGED_FILES = 10
const LOOP_IMAGE_BYTES = 2 * 1024 ** 3

/** Per peer the times of a checkpoint and of a rollback, or why it was not run. */
export async function measurePeers({ workspace, scratch, rounds }) {
  const peers = {
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
  }
  const results = {}
  for (const [name, measure] of Object.entries(peers)) {
    try {
      results[name] = await measure()
    } catch (error) {
      results[name] = { notRun: firstLine(error) }
    }
  }
  return results
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

/** `make(dir)` puts a method in charge of a tree; it answers how to keep it and how to return. */
async function measureTree(workspace, dir, rounds, make) {
  const method = make(dir)
  ;(method.prepare ?? (() => mkdirSync(dir, { recursive: true })))()
  cpSync(workspace, dir, { recursive: true, verbatimSymlinks: true })
  method.begin?.()
  const checkpointMs = []
  const rollbackMs = []
  for (let round = 0; round < rounds; round++) {
    change(dir, 2 * round)
    checkpointMs.push(time(() => method.checkpoint(round)))
    change(dir, 2 * round + 1)
    rollbackMs.push(time(() => method.rollback(round)))
    method.forget?.(round)
  }
  return { checkpointMs: summarise(checkpointMs), rollbackMs: summarise(rollbackMs) }
}

function change(dir, round) {
  for (let number = 1; number <= CHANGED_FILES; number++) writeFileSync(join(dir, `bench-${number}`), `${round}\n`)
}

function time(action) {
  const startMs = performance.now()
  action()
  return performance.now() - startMs
}

const quiet = { stdio: ['ignore', 'ignore', 'pipe'] }
const sh = (command, ...args) => execFileSync(command, args, quiet)

/** A repository beside the tree that follows everything in it, ignored files included. */
function shadowGit(dir) {
  const gitDir = `${dir}.git`
  const git = (...args) =>
    sh(
      'git',
      '-c',
      'user.name=bench',
      '-c',
      'user.email=bench@localhost',
      '-c',
      'core.excludesFile=/dev/null',
      `--git-dir=${gitDir}`,
      `--work-tree=${dir}`,
      ...args,
    )
  return {
    begin() {
      // The project's own repository would make it a submodule.
      rmSync(join(dir, '.git'), { recursive: true, force: true })
      git('init', '-q')
      git('add', '-A', '-f')
      git('commit', '-q', '-m', 'begin')
    },
    checkpoint(round) {
      git('add', '-A', '-f')
      git('commit', '-q', '--allow-empty', '-m', String(round))
    },
    rollback() {
      git('reset', '-q', '--hard')
      git('clean', '-q', '-d', '-f', '-x')
    },
  }
}

function copyTree(dir, reflink) {
  const kept = (round) => `${dir}-kept-${round}`
  return {
    checkpoint: (round) => sh('cp', '-a', `--reflink=${reflink}`, dir, kept(round)),
    rollback(round) {
      rmSync(dir, { recursive: true })
      sh('cp', '-a', `--reflink=${reflink}`, kept(round), dir)
    },
    forget: (round) => rmSync(kept(round), { recursive: true }),
  }
}

function btrfsSnapshot(dir) {
  const kept = (round) => `${dir}-kept-${round}`
  return {
    prepare: () => sh('btrfs', 'subvolume', 'create', dir),
    checkpoint: (round) => sh('btrfs', 'subvolume', 'snapshot', '-r', dir, kept(round)),
    rollback(round) {
      sh('btrfs', 'subvolume', 'delete', dir)
      sh('btrfs', 'subvolume', 'snapshot', kept(round), dir)
    },
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

const firstLine = (error) => (String(error.stderr ?? '').trim() || error.message).split('\n')[0]

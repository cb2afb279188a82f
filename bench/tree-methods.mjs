// Ways to keep a tree of files and to return to it without a sandbox: each says how to keep and how to return.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { summarise } from './statistics.mjs'

export const CHANGED_FILES = 10

/**
 * Times of checkpoints and rollbacks of a copy of the project at `dir`, of which ten files change in between.
 * `make(dir)` puts a method in charge of a tree; it answers how to keep it and how to return.
 */
export function measureTree(workspace, dir, rounds, make) {
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
export const sh = (command, ...args) => execFileSync(command, args, quiet)

/** A repository beside the tree that follows everything in it, ignored files included. */
export function shadowGit(dir) {
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

/** Copies, with reflinks `never`, `auto` or `always`. */
export function copyTree(dir, reflink) {
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

export function btrfsSnapshot(dir) {
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

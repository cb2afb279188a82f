import { mkdtempSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { removeTree } from '../../src/state/remove-tree.js'
import { watchLayers, type LayerWatch } from './watch-layers.js'

/** Overlay uppers can't lie on an overlay: tests keep their state on a real disk. */
const STATE_PARENT = process.env['DELTABOX_TEST_DIR'] ?? '/var/tmp'

/** What one test works with. */
export interface TestState {
  /** $DELTABOX_STATE_DIR of the test. */
  stateDir: string
  /** A small project. */
  workspace: string
}

/**
 * Gives each test its own state directory and workspace, and removes both with every sandbox in them. At the end of each
 * test all layers that it sealed are what they were, unless the test alters them itself.
 */
export function useTestState({
  altersLayers = false,
  parent = STATE_PARENT,
}: { altersLayers?: boolean; parent?: string | undefined } = {}): TestState {
  const state: TestState = { stateDir: '', workspace: '' }
  let root = ''
  let layers: LayerWatch | undefined
  beforeEach(() => {
    layers = altersLayers ? undefined : watchLayers()
    root = mkdtempSync(join(parent, 'dbx-test-'))
    state.stateDir = join(root, 'state')
    state.workspace = join(root, 'workspace')
    mkdirSync(join(state.workspace, 'src'), { recursive: true })
    writeFileSync(join(state.workspace, 'README.md'), '# a project\n')
    writeFileSync(join(state.workspace, 'src', 'main.txt'), 'original\n')
    process.env['DELTABOX_STATE_DIR'] = state.stateDir
  })
  afterEach(async () => {
    try {
      await layers?.verify()
    } finally {
      layers?.end()
      await removeAll()
    }
  })
  const removeAll = async () => {
    try {
      for (const { id } of await Sandbox.list()) await Sandbox.kill(id)
    } finally {
      delete process.env['DELTABOX_STATE_DIR']
      await removeTree(root)
    }
  }
  return state
}

/** Directories of sandboxes that exist in a state directory. */
export function sandboxDirs(stateDir: string): string[] {
  try {
    return readdirSync(join(stateDir, 'sandboxes'))
  } catch {
    return []
  }
}

/** Host pids of this user's engines; those of other runs on the machine included, so compare before and after. */
export function enginePids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter(isOwnEngine)
}

/** Engines of root have given up root's ids for those of their sandbox. */
const ROOTS_IDS_FROM = 2_000_000_000

/** That runs: one that nobody has reaped yet does not. */
export function isOwnEngine(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    if (!/^Name:\tdeltabox-engin/.test(status) || /^State:\t[ZX]/m.test(status)) return false
    const uid = Number(/^Uid:\t(\d+)/m.exec(status)?.[1])
    return uid === process.getuid?.() || (process.getuid?.() === 0 && uid >= ROOTS_IDS_FROM)
  } catch {
    return false
  }
}

/** Waits until no engine runs that did not run before. */
export async function untilEnginesAre(before: readonly number[]): Promise<void> {
  await until('no engine is left', () => enginePids().every((pid) => before.includes(pid)))
}

/** Polls until a condition holds. */
export async function until(
  what: string | (() => string),
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const endMs = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > endMs)
      throw new Error(`not in ${timeoutMs} ms: ${typeof what === 'string' ? what : what()}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

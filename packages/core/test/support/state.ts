import { mkdtempSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { Sandbox } from '../../src/index.js'

/** Overlay uppers can't lie on an overlay: tests keep their state on a real disk. */
const STATE_PARENT = process.env['DELTABOX_TEST_DIR'] ?? '/var/tmp'

/** What one test works with. */
export interface TestState {
  /** $DELTABOX_STATE_DIR of the test. */
  stateDir: string
  /** A small project. */
  workspace: string
}

/** Gives each test its own state directory and workspace, and removes both with every sandbox in them. */
export function useTestState(): TestState {
  const state: TestState = { stateDir: '', workspace: '' }
  let root = ''
  beforeEach(() => {
    root = mkdtempSync(join(STATE_PARENT, 'dbx-test-'))
    state.stateDir = join(root, 'state')
    state.workspace = join(root, 'workspace')
    mkdirSync(join(state.workspace, 'src'), { recursive: true })
    writeFileSync(join(state.workspace, 'README.md'), '# a project\n')
    writeFileSync(join(state.workspace, 'src', 'main.txt'), 'original\n')
    process.env['DELTABOX_STATE_DIR'] = state.stateDir
  })
  afterEach(async () => {
    try {
      for (const { id } of await Sandbox.list()) await Sandbox.kill(id)
    } finally {
      delete process.env['DELTABOX_STATE_DIR']
      rmSync(root, { recursive: true, force: true })
    }
  })
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

/** Host pids of all engines; those of other runs on the machine included, so compare before and after. */
export function enginePids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        // "pid (name) state": a zombie that nobody has reaped yet runs no more.
        return /^\d+ \(deltabox-engin.*\) [^ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
      } catch {
        return false
      }
    })
}

/** Waits until no engine runs that did not run before. */
export async function untilEnginesAre(before: readonly number[]): Promise<void> {
  await until('no engine is left', () => enginePids().every((pid) => before.includes(pid)))
}

/** Polls until a condition holds. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const endMs = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`not in ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

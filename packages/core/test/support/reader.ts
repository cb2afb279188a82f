import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Sandbox } from '../../src/index.js'

const run = promisify(execFile)
const readerPath = fileURLToPath(new URL('../reader/reader.py', import.meta.url))
const MAX_OUTPUT_BYTES = 256 << 20

/** What the independent reader sees of a sandbox: see reader/reader.py. */
export interface State {
  readonly processes: Readonly<Record<string, { readonly threads: object; readonly memory: object }>>
  readonly zombies: readonly number[]
  readonly files: Readonly<Record<string, object>>
}

/**
 * Reads a sandbox's whole state from outside, without the engine.
 * @param roots directories whose files are read; default: all that a sandbox can write to
 */
export async function readState(sandbox: Sandbox, ...roots: string[]): Promise<State> {
  const { initPid } = await sandbox.getInfo()
  const { stdout } = await run('python3', [readerPath, String(initPid), ...roots], { maxBuffer: MAX_OUTPUT_BYTES })
  return JSON.parse(stdout) as State
}

/** Where two states differ, one line for each difference. */
export function differences(before: unknown, after: unknown, path = ''): string[] {
  if (Object.is(before, after)) return []
  const isTree = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null
  if (!isTree(before) || !isTree(after)) return [`${path}: ${show(before)} → ${show(after)}`]
  const keys = new Set([...Object.keys(before), ...Object.keys(after)])
  return [...keys].flatMap((key) => differences(before[key], after[key], `${path}/${key}`))
}

const show = (value: unknown) => (JSON.stringify(value) ?? 'nothing').slice(0, 200)

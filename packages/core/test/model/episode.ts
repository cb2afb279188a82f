import { mkdirSync, mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { removeTree } from '../../src/state/remove-tree.js'
import type { Expectations } from './expectations.js'
import { runModel, type ModelCounts, type ModelEvent } from './model.js'

const PARENT = process.env['DELTABOX_TEST_DIR'] ?? '/var/tmp'

export interface EpisodeOptions {
  readonly seed: number
  readonly steps: number
  readonly switches: Expectations
  readonly events?: readonly ModelEvent[]
}

/** One run of the model with a state directory of its own, which is kept when it fails. */
export async function runEpisode(options: EpisodeOptions): Promise<ModelCounts> {
  const dir = mkdtempSync(join(PARENT, 'dbx-model-'))
  const before = process.env['DELTABOX_STATE_DIR']
  process.env['DELTABOX_STATE_DIR'] = join(dir, 'state')
  mkdirSync(join(dir, 'state'))
  try {
    const counts = await runModel({ ...options, dir })
    await removeTree(dir)
    return counts
  } finally {
    if (before === undefined) delete process.env['DELTABOX_STATE_DIR']
    else process.env['DELTABOX_STATE_DIR'] = before
  }
}

/** The counts of several runs in one line. */
export function addCounts(total: ModelCounts | undefined, more: ModelCounts): ModelCounts {
  if (total === undefined) return more
  const keys = Object.keys(more) as (keyof ModelCounts)[]
  return Object.fromEntries(keys.map((key) => [key, total[key] + more[key]])) as unknown as ModelCounts
}

export const renderCounts = (counts: ModelCounts) =>
  Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ')

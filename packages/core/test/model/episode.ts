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
export function addCounts<Counts extends object>(total: Counts | undefined, more: Counts): Counts {
  if (total === undefined) return more
  const sums = Object.entries(more).map(([name, count]) => [name, Number(count) + Number(total[name as keyof Counts])])
  return Object.fromEntries(sums) as Counts
}

export const renderCounts = (counts: object) =>
  Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ')

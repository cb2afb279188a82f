// A minute of the model; SEED=N begins elsewhere. Hours of it: npm run soak -- --of processes.
import { expect, test } from 'vitest'
import { addCounts, renderCounts } from '../model/episode.js'
import { runProcessModel, type ProcessCounts } from './model.js'

const SEEDS = 4
const EVENTS = 30
const TIMEOUT_MS = 600_000

const firstSeed = Number(process.env['SEED'] ?? 100)

test(
  'processes are what an independent reader saw at the checkpoint, whatever they did since',
  async () => {
    let total: ProcessCounts | undefined
    for (let seed = firstSeed; seed < firstSeed + SEEDS; seed++) {
      total = addCounts(total, await runProcessModel({ seed, events: EVENTS }))
    }
    console.log(`seeds ${firstSeed} to ${firstSeed + SEEDS - 1}: ${total && renderCounts(total)}`)
    expect(total?.rollbacks, 'a run that rolls nothing back proves nothing').toBeGreaterThan(5 * SEEDS)
    expect(total?.kills).toBeGreaterThan(0)
    expect(total?.comparisons).toBeGreaterThan(10 * SEEDS)
  },
  TIMEOUT_MS,
)

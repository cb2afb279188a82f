// A few thousand random operations against a plain copy; SEED=N begins elsewhere. Hours of it: npm run soak.
import { expect, test } from 'vitest'
import { addCounts, renderCounts, runEpisode } from './episode.js'
import { expectations } from './expectations.js'
import type { ModelCounts } from './model.js'

const SEEDS = 5
const STEPS = 600
const TIMEOUT_MS = 600_000

const firstSeed = Number(process.env['SEED'] ?? 100)

test(
  'files, descriptors and mappings are those of a plain copy, whatever is checkpointed and rolled back',
  async () => {
    let total: ModelCounts | undefined
    for (let seed = firstSeed; seed < firstSeed + SEEDS; seed++) {
      total = addCounts(total, await runEpisode({ seed, steps: STEPS, switches: expectations }))
    }
    console.log(`seeds ${firstSeed} to ${firstSeed + SEEDS - 1}: ${total && renderCounts(total)}`)
    expect(total?.checkpoints, 'a run that checkpoints nothing proves nothing').toBeGreaterThan(SEEDS)
    expect(total?.rollbacks).toBeGreaterThan(SEEDS)
    expect(total?.layersHashed).toBeGreaterThan(SEEDS)
  },
  TIMEOUT_MS,
)

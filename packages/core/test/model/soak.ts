// `npm run soak`
import { test } from 'vitest'
import { recordedEvents, soakSeeds, soakSteps } from '../support/soak.js'
import { runEpisode } from './episode.js'
import { expectations } from './expectations.js'
import { ModelFailure, type ModelEvent } from './model.js'
import { shrink } from './shrink.js'

const STEPS_PER_SEED = 1000
const SHRINK_MS = 10 * 60_000

const events = recordedEvents<ModelEvent>()
const switches = {
  ...expectations,
  ...Object.fromEntries((process.env['SOAK_ON'] ?? '').split(',').map((name) => [name, true])),
}

async function run(seed: number) {
  const options = { seed, steps: soakSteps ?? STEPS_PER_SEED, switches, ...(events && { events }) }
  try {
    return await runEpisode(options)
  } catch (error) {
    if (!(error instanceof ModelFailure) || process.env['SOAK_SHRINK'] === undefined) throw error
    console.log(error.message)
    throw await shrink(error, options, SHRINK_MS)
  }
}

test('soak', () => soakSeeds(run), 2 ** 31 - 1)

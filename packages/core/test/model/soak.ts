// `npm run soak`: one seed after the other until the time is up or one fails.
import { readFileSync } from 'node:fs'
import { test } from 'vitest'
import { addCounts, renderCounts, runEpisode } from './episode.js'
import { expectations } from './expectations.js'
import { ModelFailure, type ModelCounts, type ModelEvent } from './model.js'
import { shrink } from './shrink.js'

const STEPS_PER_SEED = 1000
const SHRINK_MS = 10 * 60_000

/** Events of a failure.json, to be repeated instead of drawn. */
const recordedFile = process.env['SOAK_EVENTS']
const events =
  recordedFile === undefined
    ? undefined
    : (JSON.parse(readFileSync(recordedFile, 'utf8')) as { events: ModelEvent[] }).events

const number = (name: string) => (process.env[name] === undefined ? undefined : Number(process.env[name]))
const firstSeed = number('SOAK_SEED') ?? Math.floor(Math.random() * 2 ** 31)
const steps = number('SOAK_STEPS')
const forMs = (number('SOAK_MINUTES') ?? 0) * 60_000
const switches = {
  ...expectations,
  ...Object.fromEntries((process.env['SOAK_ON'] ?? '').split(',').map((name) => [name, true])),
}

test(
  'soak',
  async () => {
    const startMs = performance.now()
    let total: ModelCounts | undefined
    for (let seed = firstSeed; ; seed++) {
      const options = { seed, steps: steps ?? STEPS_PER_SEED, switches, ...(events && { events }) }
      try {
        total = addCounts(total, await runEpisode(options))
      } catch (error) {
        if (!(error instanceof ModelFailure) || process.env['SOAK_SHRINK'] === undefined) throw error
        console.log(error.message)
        throw await shrink(error, options, SHRINK_MS)
      }
      const spentMs = performance.now() - startMs
      console.log(
        `seed ${seed}; in all ${seed - firstSeed + 1} seeds in ${(spentMs / 60_000).toFixed(1)} min: ${renderCounts(total)}`,
      )
      if (spentMs >= forMs) return
    }
  },
  2 ** 31 - 1,
)

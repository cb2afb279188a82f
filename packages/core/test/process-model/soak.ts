// `npm run soak -- --of processes`: one seed after the other until the time is up or one fails.
import { readFileSync } from 'node:fs'
import { test } from 'vitest'
import { addCounts, renderCounts } from '../model/episode.js'
import { runProcessModel, type ProcessCounts, type ProcessEvent } from './model.js'

const EVENTS_PER_SEED = 80

/** Events of a failure.json, to be repeated instead of drawn. */
const recordedFile = process.env['SOAK_EVENTS']
const recorded =
  recordedFile === undefined
    ? undefined
    : (JSON.parse(readFileSync(recordedFile, 'utf8')) as { events: ProcessEvent[] }).events

const number = (name: string) => (process.env[name] === undefined ? undefined : Number(process.env[name]))
const firstSeed = number('SOAK_SEED') ?? Math.floor(Math.random() * 2 ** 31)
const events = number('SOAK_STEPS') ?? EVENTS_PER_SEED
const forMs = (number('SOAK_MINUTES') ?? 0) * 60_000

test(
  'soak',
  async () => {
    const startMs = performance.now()
    let total: ProcessCounts | undefined
    for (let seed = firstSeed; ; seed++) {
      total = addCounts(total, await runProcessModel({ seed, events, ...(recorded && { recorded }) }))
      const spentMs = performance.now() - startMs
      console.log(
        `seed ${seed}; in all ${seed - firstSeed + 1} seeds in ${(spentMs / 60_000).toFixed(1)} min: ${renderCounts(total)}`,
      )
      if (spentMs >= forMs) return
    }
  },
  2 ** 31 - 1,
)

// The loop of the soaks: one seed after the other until the time is up or one fails.
import { readFileSync } from 'node:fs'
import { addCounts, renderCounts } from '../model/episode.js'

const number = (name: string) => (process.env[name] === undefined ? undefined : Number(process.env[name]))
const recordedFile = process.env['SOAK_EVENTS']

/** Steps or events of a run, when they were given. */
export const soakSteps = number('SOAK_STEPS')

/** Events of a failure.json, to be repeated instead of drawn. */
export function recordedEvents<Event>(): Event[] | undefined {
  if (recordedFile === undefined) return undefined
  return (JSON.parse(readFileSync(recordedFile, 'utf8')) as { events: Event[] }).events
}

/** Runs seeds from SOAK_SEED on for SOAK_MINUTES, one at least, and prints the counts. */
export async function soakSeeds<Counts extends object>(run: (seed: number) => Promise<Counts>): Promise<void> {
  const firstSeed = number('SOAK_SEED') ?? Math.floor(Math.random() * 2 ** 31)
  const forMs = (number('SOAK_MINUTES') ?? 0) * 60_000
  const startMs = performance.now()
  let total: Counts | undefined
  for (let seed = firstSeed; ; seed++) {
    total = addCounts(total, await run(seed))
    const spentMs = performance.now() - startMs
    const seeds = `${seed - firstSeed + 1} seeds in ${(spentMs / 60_000).toFixed(1)} min`
    console.log(`seed ${seed}; in all ${seeds}: ${renderCounts(total)}`)
    if (spentMs >= forMs) return
  }
}

// The engine is killed anywhere. SEEDS bounds the time; `npm run crash` goes on as long as wanted.
import { expect, test } from 'vitest'
import { useTestState } from '../support/state.js'
import { CrashEpisode } from './episode.js'
import { FAULT_POINTS } from './fault-points.js'

const state = useTestState()
const SEEDS = 10
const SEEDS_PER_TEST = 5

test('the list of fault points is the engine’s', () => {
  expect(FAULT_POINTS.length).toBeGreaterThan(20)
  expect(new Set(FAULT_POINTS).size).toBe(FAULT_POINTS.length)
})

// The second pass at least: the first may be the creation's.
test.each(FAULT_POINTS.flatMap((point, index) => [{ point, seed: 1000 + index, passes: 3 }]))(
  'a death at $point loses nothing that was answered',
  async ({ point, seed, passes }) => {
    const { deaths } = await new CrashEpisode({ seed, state, fault: `${point}:${passes}`, crashes: 1 }).run()
    expect(deaths).toBeGreaterThan(0)
  },
)

test.each(Array.from({ length: SEEDS / SEEDS_PER_TEST }, (_, index) => index * SEEDS_PER_TEST))(
  `seeds from %i on: kills at random`,
  async (first) => {
    for (let seed = first; seed < first + SEEDS_PER_TEST; seed++) await new CrashEpisode({ seed, state }).run()
  },
  120_000,
)

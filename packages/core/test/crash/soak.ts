// `npm run crash`: one seed after the other until the runs are done or the time is up; a failure names its seed.
import { expect, test } from 'vitest'
import { useTestState } from '../support/state.js'
import { CrashEpisode, type CrashCounts } from './episode.js'

const state = useTestState()
const number = (name: string) => (process.env[name] === undefined ? undefined : Number(process.env[name]))
const firstSeed = number('CRASH_SEED') ?? Math.floor(Math.random() * 2 ** 31)
const minutes = number('CRASH_MINUTES')
const runs = number('CRASH_RUNS') ?? (minutes === undefined ? 100 : Infinity)

test(
  'crashes',
  async () => {
    const startMs = performance.now()
    const total: CrashCounts & { runs: number } = { runs: 0, deaths: 0, operations: 0, checkpoints: 0, restored: 0 }
    const failures: string[] = []
    for (let seed = firstSeed; total.runs < runs; seed++) {
      if (minutes !== undefined && performance.now() - startMs > minutes * 60_000) break
      total.runs++
      try {
        const counts = await new CrashEpisode({ seed, state }).run()
        total.deaths += counts.deaths
        total.operations += counts.operations
        total.checkpoints += counts.checkpoints
        total.restored += counts.restored
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error))
        console.log(failures.at(-1))
      }
      if (total.runs % 50 === 0) console.log(`seed ${seed}`, JSON.stringify(total), `failures: ${failures.length}`)
    }
    console.log(`seeds from ${firstSeed} on`, JSON.stringify(total), `failures: ${failures.length}`)
    expect(failures).toEqual([])
  },
  2 ** 31 - 1,
)

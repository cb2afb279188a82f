import { runEpisode, type EpisodeOptions } from './episode.js'
import { ModelFailure, type ModelEvent } from './model.js'

/** Repeats a failed run with less and less, as long as it fails in the same way; bounded in time. */
export async function shrink(failure: ModelFailure, options: EpisodeOptions, forMs: number): Promise<ModelFailure> {
  const endMs = performance.now() + forMs
  let smallest = failure
  const tryWithout = async (events: readonly ModelEvent[]): Promise<boolean> => {
    try {
      await runEpisode({ ...options, events })
    } catch (error) {
      if (!(error instanceof ModelFailure) || error.what !== failure.what) return false
      smallest = error
      return true
    }
    return false
  }
  for (const split of [wholeEvents, singleCalls]) {
    let pieces = split(smallest.events)
    for (
      let size = Math.ceil(pieces.length / 2);
      size >= 1 && performance.now() < endMs;
      size = size === 1 ? 0 : Math.ceil(size / 2)
    ) {
      for (let from = 0; from < pieces.length && performance.now() < endMs;) {
        const without = [...pieces.slice(0, from), ...pieces.slice(from + size)]
        if (await tryWithout(without)) pieces = without
        else from += size
      }
    }
  }
  return smallest
}

const wholeEvents = (events: readonly ModelEvent[]): ModelEvent[] => [...events]

const singleCalls = (events: readonly ModelEvent[]): ModelEvent[] =>
  events.flatMap((event) =>
    event.kind === 'calls' ? event.calls.map((call): ModelEvent => ({ kind: 'calls', calls: [call] })) : [event],
  )

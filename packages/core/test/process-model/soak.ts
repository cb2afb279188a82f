// `npm run soak -- --of processes`
import { test } from 'vitest'
import { recordedEvents, soakSeeds, soakSteps } from '../support/soak.js'
import { runProcessModel, type ProcessEvent } from './model.js'

const EVENTS_PER_SEED = 80

const recorded = recordedEvents<ProcessEvent>()
const events = soakSteps ?? EVENTS_PER_SEED

test('soak', () => soakSeeds((seed) => runProcessModel({ seed, events, ...(recorded && { recorded }) })), 2 ** 31 - 1)

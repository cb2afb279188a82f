// An engine that has used up its descriptors says so, loses nothing, and goes on once it has some again.
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { enginePids, untilEnginesAre, useTestState } from '../support/state.js'

const state = useTestState()
const SCRIPT = new URL('few-descriptors.mjs', import.meta.url).pathname

interface Told {
  taken: number
  failure: { code: string; nextStep: string }
  rollback: { code: string }
  later: Record<string, string>
  checkpoint: { code: string }
}

test('without descriptors every call works or is NO_SPACE, and without some of the checkpoints all goes on', async () => {
  const before = enginePids()
  const { stdout, stderr, status } = spawnSync(
    'bash',
    ['-c', 'ulimit -n 300 && exec "$0" "$@"', process.execPath, SCRIPT, state.workspace],
    { encoding: 'utf8', env: { ...process.env, DELTABOX_STATE_DIR: state.stateDir } },
  )
  expect(status, stderr).toBe(0)
  const { taken, failure, rollback, later, checkpoint } = JSON.parse(stdout) as Told
  expect(taken).toBeGreaterThan(50)
  expect(failure.code).toBe('NO_SPACE')
  expect(failure.nextStep).toMatch(/Delete checkpoints/)
  expect(['done', 'NO_SPACE']).toContain(rollback.code)
  expect(later).toEqual({ 1: '1', [taken - 1]: String(taken - 1) })
  expect(checkpoint.code).toBe('done')
  await untilEnginesAre(before)
})

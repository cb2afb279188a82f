// Checkpoints cost an engine no descriptors; one that has used up its own says so, loses nothing, and goes on once it
// has some again.
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { enginePids, untilEnginesAre, useTestState } from '../support/state.js'

const state = useTestState()
const SCRIPT = new URL('few-descriptors.mjs', import.meta.url).pathname

interface Told {
  taken: number
  later: Record<string, [string, string]>
  started: number
  failure: { code: string; nextStep: string }
  rollback: { code: string }
  checkpoint: { code: string }
  last: [string, string]
}

test('300 descriptors are enough for 1,200 checkpoints with files deleted while open, and without any calls are NO_SPACE', async () => {
  const before = enginePids()
  const { stdout, stderr, status } = spawnSync(
    'bash',
    ['-c', 'ulimit -n 300 && exec "$0" "$@"', process.execPath, SCRIPT, state.workspace],
    { encoding: 'utf8', env: { ...process.env, DELTABOX_STATE_DIR: state.stateDir } },
  )
  expect(status, stderr).toBe(0)
  const { taken, later, started, failure, rollback, checkpoint, last } = JSON.parse(stdout) as Told
  expect(taken).toBe(1200)
  expect(later).toEqual({ 1: ['1', '1'], 600: ['600', '600'], 1199: ['1199', '1199'] })
  expect(started).toBeGreaterThan(5)
  expect(failure.code).toBe('NO_SPACE')
  expect(['done', 'NO_SPACE']).toContain(rollback.code)
  expect(checkpoint.code).toBe('done')
  expect(last).toEqual(['3', '3'])
  await untilEnginesAre(before)
})

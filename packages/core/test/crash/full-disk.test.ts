// A full disk in a user namespace of the caller's own: as an ordinary user has it, in which anybody may mount a tmpfs.
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { enginePids, untilEnginesAre, useTestState } from '../support/state.js'

const state = useTestState()
const SCRIPT = new URL('full-disk.mjs', import.meta.url).pathname

interface Told {
  what: string
  code?: string
  message?: string
  nextStep?: string
  value?: unknown
}

test('without space every call works or is NO_SPACE, nothing is lost, and with space all goes on', async () => {
  const before = enginePids()
  const { stdout, stderr, status } = spawnSync('unshare', ['-Urm', process.execPath, SCRIPT, state.workspace], {
    encoding: 'utf8',
    env: { ...process.env, DELTABOX_STATE_DIR: state.stateDir },
  })
  expect(status, stderr).toBe(0)
  const events = JSON.parse(stdout) as Told[]
  const told = (what: string) => events.filter((event) => event.what === what)
  const one = (what: string) => told(what)[0]!
  expect(one('write')).toMatchObject({ code: 'NO_SPACE' })
  expect(one('names').value).toEqual(['README.md', 'kept', 'later', 'src'])
  expect(one('small write')).toMatchObject({ code: 'NO_SPACE' })
  const taken = told('checkpoint').filter(({ code }) => code === 'done')
  for (const event of [...told('checkpoint'), one('recovery')]) {
    expect(['done', 'NO_SPACE'], JSON.stringify(event)).toContain(event.code)
    if (event.code !== 'done') expect(event.nextStep).toMatch(/space/)
  }
  expect(told('checkpoint').at(-1)).toMatchObject({ code: 'NO_SPACE' })
  expect([one('kept').value, one('later').value]).toEqual([300_000, 'later'])
  for (const { value } of taken) expect(one('listed').value).toContain(value)
  expect(one('write with space').code).toBe('done')
  expect(one('checkpoint with space').code).toBe('done')
  expect(one('rollback with space')).toMatchObject({ code: 'done', value: '# a project\n' })
  await untilEnginesAre(before)
}, 60_000)

// Forks as agents make and end them, in real sandboxes.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { agentTools, ToolSession, type ToolSessionInit } from '../../src/tools/index.js'
import { MAX_FORKS } from '../../src/tools/session.js'
import { sandboxDirs, useTestState } from '../support/state.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })
const present = async () => (await Sandbox.list()).length

function open(init: Partial<ToolSessionInit> = {}) {
  const session = new ToolSession({ open: create, atClose: 'kill', ...init })
  const call = async (name: string, input: object): Promise<Record<string, unknown>> =>
    (await agentTools.find((candidate) => candidate.name === name)!.call(session, input)).data
  return { session, call }
}

test('each fork has files and a live session of its own; one is kept and is main from then on', async () => {
  const { session, call } = open()
  const python = { command: 'exec python3 -i -q -u', background: true, stdin: 'x = 1\n' }
  const { commandId } = await call('exec', python)
  await call('checkpoint', { name: 'start' })
  await call('write_file', { path: 'later', content: 'not in the forks' })
  const { sandboxes } = await call('fork', { count: 3, from: 'start' })
  expect(sandboxes).toMatchObject([{ name: 'fork-1' }, { name: 'fork-2' }, { name: 'fork-3' }])
  expect(await present()).toBe(4)
  for (const [index, sandbox] of ['fork-1', 'fork-2', 'fork-3'].entries()) {
    await call('exec', { commandId, sandbox, stdin: `x += ${index}; open("way", "w").write(str(x))\n` })
  }
  expect((await call('read_file', { path: 'way', sandbox: 'fork-3' }))['text']).toBe('3')
  await expect(call('read_file', { path: 'later', sandbox: 'fork-3' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(call('read_file', { path: 'way' })).rejects.toMatchObject({ code: 'NOT_FOUND' })

  // Forks of a fork, from a checkpoint of its own.
  await call('checkpoint', { name: 'deeper', sandbox: 'fork-2' })
  await call('exec', { command: 'rm way', sandbox: 'fork-2' })
  expect(await call('fork', { count: 1, sandbox: 'fork-2', from: 'deeper' })).toMatchObject({
    sandboxes: [{ name: 'fork-4' }],
  })
  await call('end_fork', { sandbox: 'fork-1' })
  await expect(call('list_files', { sandbox: 'fork-1' })).rejects.toMatchObject({
    code: 'SANDBOX_NOT_FOUND',
    nextStep: 'use one of: main, fork-2, fork-3, fork-4',
  })
  expect((await call('keep_only', { sandbox: 'fork-4' }))['ended']).toEqual(['fork-2', 'fork-3', 'main'])
  expect(await present()).toBe(1)
  for (const sandbox of [undefined, 'main', 'fork-4']) {
    expect((await call('read_file', { path: 'way', sandbox }))['text']).toBe('2')
  }
  expect((await call('exec', { commandId, stdin: 'print(x)\n' }))['stdout']).toContain('2\n')
  await expect(call('end_fork', { sandbox: 'fork-4' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await call('rollback', { target: 'deeper' })
  await call('fork', { count: 2 })
  expect((await call('keep_only', { sandbox: 'main' }))['ended']).toEqual(['fork-5', 'fork-6'])
  await session.close()
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

test('what makes no sense is refused and changes nothing', async () => {
  const { session, call } = open()
  await expect(call('end_fork', { sandbox: 'main' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(call('end_fork', {})).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(call('keep_only', { sandbox: 'fork-1' })).rejects.toMatchObject({ code: 'SANDBOX_NOT_FOUND' })
  for (const count of [0, MAX_FORKS + 1]) {
    await expect(call('fork', { count })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }
  expect(await present()).toBe(0)
  await expect(call('fork', { count: 2, from: 'nowhere' })).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
  await call('fork', { count: 2 })
  await expect(call('fork', { count: MAX_FORKS - 1 })).rejects.toThrow(/15 more forks beside 2; 16 are possible/)
  expect(await present()).toBe(3)
  await session.close()
  await session.close()
  expect(await present()).toBe(0)
})

test('forks that are asked for when the session ends, end too', async () => {
  const { session, call } = open()
  await call('exec', { command: 'true' })
  const forking = expect(call('fork', { count: 2 })).rejects.toMatchObject({})
  await session.close()
  await forking
  expect(await present()).toBe(0)
})

test.each(['keep', 'disconnect'] as const)('a sandbox that is not the session’s own lives on: %s', async (atClose) => {
  await using sandbox = await create()
  const { session, call } = open({ open: () => Sandbox.connect(sandbox.id), atClose })
  await call('fork', { count: 2 })
  const { id, ended } = await call('keep_only', { sandbox: 'fork-1' })
  expect(ended).toEqual(['fork-2'])
  await call('write_file', { path: 'chosen', content: 'yes' })
  await session.close()
  expect(await sandbox.isRunning()).toBe(true)
  await using kept = await Sandbox.connect(id as string)
  expect(await kept.files.read('chosen')).toBe('yes')
})

// Whatever is refused changes nothing and leaves nothing behind.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadNative } from '@deltabox/native'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { enginePids, sandboxDirs, untilEnginesAre, useTestState } from '../support/state.js'

const cliPath = fileURLToPath(new URL('../../bin/deltabox.js', import.meta.url))
const state = useTestState()

test('create refuses what it cannot do and leaves no process and no directory', async () => {
  const enginesBefore = enginePids()
  const file = join(state.workspace, 'README.md')
  const signal = AbortSignal.abort()
  const refused: [Parameters<typeof Sandbox.create>[0], string][] = [
    [{ workspace: join(state.workspace, 'missing') }, 'NOT_FOUND'],
    [{ workspace: file }, 'NOT_A_DIRECTORY'],
    [{ workspace: '' }, 'INVALID_ARGUMENT'],
    [{ workspace: '/' }, 'INVALID_ARGUMENT'],
    [{ workspace: state.workspace, workspaceMount: 'relative' }, 'INVALID_ARGUMENT'],
    [{ workspace: state.workspace, workspaceMount: '/a/../b' }, 'INVALID_ARGUMENT'],
    [{ workspace: state.workspace, network: 'all' as 'none' }, 'INVALID_ARGUMENT'],
    [{ workspace: state.workspace, network: { allow: ['http://host'] } }, 'INVALID_ARGUMENT'],
    [{ workspace: state.workspace, idleTimeoutMs: -1 }, 'INVALID_ARGUMENT'],
    [{ workspace: state.workspace, bogus: 1 } as object, 'INVALID_ARGUMENT'],
    [{ workspace: state.workspace, signal }, 'ABORTED'],
  ]
  for (const [options, code] of refused) {
    await expect(Sandbox.create(options), JSON.stringify(options)).rejects.toMatchObject({ code })
    expect(sandboxDirs(state.stateDir)).toEqual([])
    await untilEnginesAre(enginesBefore)
  }
})

test('a state directory inside the workspace is refused', async () => {
  process.env['DELTABOX_STATE_DIR'] = join(state.workspace, '.deltabox')
  await expect(Sandbox.create({ workspace: state.workspace })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('unknown and malformed ids', async () => {
  await expect(Sandbox.connect('sbx_aaaaaaaaaaaa')).rejects.toMatchObject({ code: 'SANDBOX_NOT_FOUND' })
  await expect(Sandbox.connect('../../etc')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  expect(await Sandbox.kill('sbx_aaaaaaaaaaaa')).toBe(false)
  await expect(Sandbox.kill('x/y')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('unknown checkpoints and invalid or taken names change nothing', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.checkpoint({ name: 'taken' })
  await sandbox.files.write('live', 'state')
  await expect(sandbox.rollback('nowhere')).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
  await expect(sandbox.rollback('')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(sandbox.checkpoint({ name: 'taken' })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
  for (const name of ['', '../x', 'a\nb', 'x'.repeat(101), '-x']) {
    await expect(sandbox.checkpoint({ name })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }
  expect((await sandbox.listCheckpoints()).checkpoints).toHaveLength(1)
  expect(await sandbox.files.read('live')).toBe('state')
})

test('file paths that cannot be read or written', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const { files } = sandbox
  await expect(files.read('missing')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(files.read('src')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.read('a\0b')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.write('no/such/dir/file', 'x', { makeParents: false })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  })
})

test('a dead engine is told apart, and kill removes what it left', async () => {
  const enginesBefore = enginePids()
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  const { enginePid } = await sandbox.getInfo()
  process.kill(enginePid, 'SIGKILL')
  await untilEnginesAre(enginesBefore)
  await expect(sandbox.getInfo()).rejects.toMatchObject({ code: 'ENGINE_LOST' })
  expect(await Sandbox.list()).toMatchObject([{ id: sandbox.id, state: 'dead' }])
  await sandbox.kill()
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

test('an engine that cannot come up is cleaned away, and its log is in the error', () => {
  const broken = join(state.stateDir, '..', 'native')
  mkdirSync(broken)
  const { enginePath } = loadNative()
  copyFileSync(join(dirname(enginePath), 'deltabox_addon.node'), join(broken, 'deltabox_addon.node'))
  writeFileSync(join(broken, 'deltabox-engine'), '#!/bin/sh\necho no such feature\nexit 1\n', { mode: 0o755 })
  // The native part is loaded once in a process: the broken one needs a process of its own.
  const { stdout, status } = spawnSync(
    process.execPath,
    [cliPath, 'create', '--json', '--workspace', state.workspace],
    {
      env: { ...process.env, DELTABOX_NATIVE_DIR: broken },
      encoding: 'utf8',
    },
  )
  expect(status).toBe(1)
  expect(JSON.parse(stdout)).toMatchObject({ error: { data: { engineLog: 'no such feature' } } })
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

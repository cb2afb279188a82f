// How sandboxes begin and end: time-outs, states, failed creations.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox, type DeltaboxError } from '../../src/index.js'
import { enginePids, sandboxDirs, until, untilEnginesAre, useTestState } from '../support/state.js'

const state = useTestState()
const isRoot = process.getuid?.() === 0

test('an engine that works on the store in the background has ended that before its sandbox is removed', async () => {
  process.env['DELTABOX_FAULT'] = 'before-sync:pause'
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  delete process.env['DELTABOX_FAULT']
  await sandbox.checkpoint()
  const threads = `/proc/${(await sandbox.getInfo()).enginePid}/task`
  expect(readdirSync(threads).length).toBeGreaterThan(1)
  await Sandbox.kill(sandbox.id)
  expect(existsSync(threads) ? readdirSync(threads).length : 0).toBeLessThan(2)
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

test('the idle time-out counts only without clients and commands, and leaves nothing', async () => {
  const before = enginePids()
  const { workspace } = state
  const sandbox = await Sandbox.create({ workspace, idleTimeoutMs: 300 })
  await new Promise((resolve) => setTimeout(resolve, 1500))
  expect(await sandbox.isRunning()).toBe(true)
  const sleeper = await sandbox.commands.run('sleep 60', { background: true })
  sandbox.disconnect()
  await new Promise((resolve) => setTimeout(resolve, 1500))
  const again = await Sandbox.connect(sandbox.id)
  await again.commands.kill(sleeper.commandId)
  await until('its end', async () => (await again.getMetrics()).runningCommands === 0)
  await again.files.write('x', 'y')
  again.disconnect()
  await untilEnginesAre(before)
  // Whoever looks next removes what is left.
  expect(sandboxDirs(state.stateDir)).toEqual([sandbox.id])
  await expect(Sandbox.connect(sandbox.id)).rejects.toMatchObject({
    code: 'SANDBOX_DEAD',
    message: expect.stringContaining('idle time-out') as string,
  })
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

test('the orphan time-out ends a sandbox whatever runs in it; list and create remove what ended', async () => {
  const before = enginePids()
  const { workspace } = state
  for (const look of [() => Sandbox.list(), async () => (await Sandbox.create({ workspace })).kill()]) {
    const sandbox = await Sandbox.create({ workspace, orphanTimeoutMs: 300 })
    await sandbox.commands.run('sleep 60', { background: true })
    await sandbox.checkpoint()
    sandbox.disconnect()
    await untilEnginesAre(before)
    await look()
    expect(sandboxDirs(state.stateDir)).toEqual([])
  }
  expect(await Sandbox.list()).toEqual([])
})

test('a sandbox that is being created is neither dead nor removed', async () => {
  const id = 'sbx_aaaaaaaaaaaa'
  const dir = join(state.stateDir, 'sandboxes', id)
  mkdirSync(dir, { recursive: true })
  expect(await Sandbox.list()).toMatchObject([{ id, state: 'creating' }])
  await expect(Sandbox.kill(id)).rejects.toMatchObject({ code: 'BUSY' })
  await expect(Sandbox.connect(id)).rejects.toMatchObject({ code: 'BUSY' })
  expect(sandboxDirs(state.stateDir)).toEqual([id])
  // It is only while no record says that its creation was completed.
  const record = { version: 1, id, workspace: '/', workspaceMount: '/workspace', createdAtMs: 1, metadata: {} }
  writeFileSync(join(dir, 'info.json'), JSON.stringify(record))
  expect(await Sandbox.list()).toMatchObject([{ id, state: 'dead' }])

  const making = Array.from({ length: 4 }, () => Sandbox.create({ workspace: state.workspace }))
  const states = new Set<string>()
  let made = false
  const all = Promise.all(making).finally(() => (made = true))
  while (!made) for (const entry of await Sandbox.list()) if (entry.id !== id) states.add(entry.state)
  expect([...states].filter((seen) => seen !== 'creating' && seen !== 'running')).toEqual([])
  await Promise.all((await all).map((sandbox) => sandbox.kill()))
})

test('without a home directory the error says what to set', () => {
  const env = { PATH: process.env['PATH'] ?? '' }
  const inner = `const { stateDirPath } = await import(${JSON.stringify(new URL('../../dist/state/state-dir.js', import.meta.url).href)})
    try { console.log(stateDirPath()) } catch (error) { console.log(error.code, error.nextStep) }`
  const asNobodyKnown = isRoot ? ['setpriv', '--reuid=64999', '--clear-groups'] : []
  const [program = '', ...args] = [...asNobodyKnown, process.execPath, '--input-type=module', '-e', inner]
  const { stdout } = spawnSync(program, args, { env, encoding: 'utf8' })
  expect(stdout).toMatch(/^NOT_FOUND set DELTABOX_STATE_DIR .*HOME\n$/)
  const chosen = spawnSync(program, args, { env: { ...env, DELTABOX_STATE_DIR: '/var/tmp/x' }, encoding: 'utf8' })
  expect(chosen.stdout).toBe('/var/tmp/x\n')
})

// Only root can make a disk that is full.
test.runIf(isRoot)('a full disk, or one without inodes, is NO_SPACE, in words of the caller', async () => {
  mkdirSync(state.stateDir, { recursive: true })
  const onDisk = async (limit: string, use: () => Promise<void>) => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `${limit},mode=0700`, 'tmpfs', state.stateDir])
    try {
      await use()
    } finally {
      execFileSync('umount', ['-l', state.stateDir])
    }
  }
  for (const inodes of [2, 4, 6, 12, 20, 24, 28, 30, 34, 38]) {
    await onDisk(`nr_inodes=${inodes}`, async () => {
      const outcome = await Sandbox.create({ workspace: state.workspace }).catch((error: unknown) => error)
      expect(outcome, String(inodes)).toMatchObject({ code: 'NO_SPACE' })
      const told = JSON.stringify(outcome) + String(outcome)
      expect(told).not.toContain('/.deltabox/')
      expect(told).not.toContain('look into engine.log')
      expect(sandboxDirs(state.stateDir)).toEqual([])
    })
  }
  await onDisk('size=1m,nr_inodes=200', async () => {
    await using sandbox = await Sandbox.create({ workspace: state.workspace })
    const { files, commands } = sandbox
    await expect(files.write('big', Buffer.alloc(2 << 20))).rejects.toMatchObject({ code: 'NO_SPACE' })
    expect((await files.list('.')).map(({ name }) => name)).toEqual(['README.md', 'src'])
    await commands.run('head -c 300000 /dev/urandom > kept')
    const taken = await sandbox.checkpoint()
    expect((await commands.run('for i in $(seq 300); do mkdir d$i || exit 9; done')).exitCode).toBe(9)
    // The next overlay may have been staged while there was room; from then on there is none.
    const codes: string[] = []
    for (let round = 0; round < 3; round += 1) {
      await files.remove(`d${round + 1}`).catch(() => undefined)
      codes.push(
        await sandbox.checkpoint().then(
          () => 'taken',
          (error: DeltaboxError) => error.code,
        ),
      )
    }
    for (const code of codes) expect(['taken', 'NO_SPACE']).toContain(code)
    expect((await files.getInfo('kept')).sizeBytes).toBe(300_000)
    const back = await sandbox.rollback(taken).then(
      () => 'done',
      (error: DeltaboxError) => error.code,
    )
    expect(['done', 'NO_SPACE']).toContain(back)
    expect((await commands.run('wc -c < kept')).stdout).toBe('300000\n')
  })
})

// Several clients on one sandbox: one queue, generations, idempotency keys, bounds, metrics.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { connectSandbox } from '../../src/sandbox/connect.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })
const MAX_CLIENTS = 256

test('calls of two clients are carried out one after another, and both see what came of them', async () => {
  await using sandbox = await create()
  const other = await Sandbox.connect(sandbox.id)
  const taken = await Promise.all(
    Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? sandbox : other).checkpoint({ name: `n${index}` })),
  )
  const { checkpoints } = await other.listCheckpoints()
  expect(new Set(taken.map(({ id }) => id)).size).toBe(20)
  // One chain: each call found the head that the one before had left.
  expect(checkpoints.map(({ parent }) => parent)).toEqual([null, ...checkpoints.slice(0, -1).map(({ id }) => id)])
  const both = await Promise.allSettled([sandbox.checkpoint({ name: 'same' }), other.checkpoint({ name: 'same' })])
  expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  other.disconnect()
})

test('a call that expects another generation is refused, and handles of what lives on still work', async () => {
  await using sandbox = await create()
  const other = await Sandbox.connect(sandbox.id)
  const cat = await other.commands.run(['cat'], { background: true })
  const first = await sandbox.checkpoint()
  const dying = await other.commands.run(['cat'], { background: true })
  const seen = other.generation
  await sandbox.rollback(first)
  const expectedGeneration = seen
  for (const stale of [
    other.checkpoint({ expectedGeneration }),
    other.rollback(first, { expectedGeneration }),
    other.commands.run('true', { expectedGeneration }),
    other.commands.run('true', { expectedGeneration, background: true }),
    other.pty.create({ expectedGeneration }),
  ]) {
    await expect(stale).rejects.toMatchObject({ code: 'STALE_GENERATION' })
  }
  expect((await other.listCheckpoints()).checkpoints).toHaveLength(2)
  expect(other.generation).toBe(seen + 1)
  await other.checkpoint({ expectedGeneration: other.generation })
  await cat.sendStdin('still here\n')
  await until('the echo', () => cat.stdout === 'still here\n')
  await expect(dying.sendStdin('x')).rejects.toMatchObject({ code: 'STALE_GENERATION' })
  await expect(dying.wait()).rejects.toMatchObject({ code: 'ROLLED_BACK' })
  other.disconnect()
})

test('a changing call with the key of an earlier one is answered and not done again', async () => {
  await using sandbox = await create()
  const idempotencyKey = 'once'
  const first = await sandbox.checkpoint({ name: 'kept', idempotencyKey })
  await sandbox.files.write('later', 'x')
  // As a client does that lost its connection before the answer.
  const again = await Sandbox.connect(sandbox.id)
  expect((await again.checkpoint({ name: 'kept', idempotencyKey })).id).toBe(first.id)
  expect((await again.listCheckpoints()).checkpoints).toHaveLength(1)
  await expect(again.checkpoint({ name: 'other', idempotencyKey })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })

  const back = await sandbox.rollback(first, { idempotencyKey: 'back' })
  await sandbox.files.write('live', 'state')
  expect((await again.rollback(first, { idempotencyKey: 'back' })).safetyCheckpoint).toBe(back.safetyCheckpoint)
  expect(await sandbox.files.read('live')).toBe('state')

  const run = { background: true, idempotencyKey: 'run' } as const
  const command = 'echo started >> runs; echo printed; exec cat'
  const started = await sandbox.commands.run(command, run)
  await until('its output', () => started.stdout === 'printed\n')
  const joined = await again.commands.run(command, run)
  expect([joined.commandId, joined.pid]).toEqual([started.commandId, started.pid])
  await until('the spool', () => joined.stdout === 'printed\n')
  await joined.sendStdin('to the same one\n')
  await until('the echo', () => started.stdout === 'printed\nto the same one\n')
  expect(await sandbox.files.read('runs')).toBe('started\n')

  expect(await sandbox.files.makeDir('made', { idempotencyKey: 'dir' })).toBe(true)
  expect(await sandbox.files.makeDir('made', { idempotencyKey: 'dir' })).toBe(true)
  // A failure is an answer too.
  const missing = { idempotencyKey: 'missing' }
  await expect(sandbox.rollback('later', missing)).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
  await sandbox.checkpoint({ name: 'later' })
  await expect(sandbox.rollback('later', missing)).rejects.toMatchObject({ code: 'CHECKPOINT_NOT_FOUND' })
  for (const wrong of ['', 'x'.repeat(129)]) {
    await expect(sandbox.checkpoint({ idempotencyKey: wrong })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }

  // Only the last 256 are known.
  for (let call = 0; call < 256; call += 1) await sandbox.files.makeDir('made', { idempotencyKey: `fill ${call}` })
  expect((await sandbox.checkpoint({ idempotencyKey })).id).not.toBe(first.id)
  again.disconnect()
})

test('one client too many is told so', async () => {
  await using sandbox = await create()
  const others = await Promise.all(Array.from({ length: MAX_CLIENTS - 1 }, () => Sandbox.connect(sandbox.id)))
  await expect(Sandbox.connect(sandbox.id)).rejects.toMatchObject({
    code: 'BUSY',
    message: expect.stringContaining('256 clients') as string,
  })
  expect((await sandbox.getMetrics()).clients).toBe(MAX_CLIENTS)
  for (const other of others) other.disconnect()
  await until('there is room', async () => (await sandbox.getMetrics()).clients === 1)
  const late = await Sandbox.connect(sandbox.id)
  expect(await late.isRunning()).toBe(true)
  late.disconnect()
})

test('a client of an engine that is stopped is told so, and connects once that goes on', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const { enginePid } = await sandbox.getInfo()
  process.kill(enginePid, 'SIGSTOP')
  try {
    await expect(connectSandbox(sandbox.id, undefined, 200)).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: `the engine of ${sandbox.id} did not answer within 200 ms`,
    })
    const abort = AbortSignal.timeout(200)
    await expect(Sandbox.connect(sandbox.id, { signal: abort })).rejects.toMatchObject({ code: 'ABORTED' })
  } finally {
    process.kill(enginePid, 'SIGCONT')
  }
  await using again = await Sandbox.connect(sandbox.id)
  expect((await again.getInfo()).enginePid).toBe(enginePid)
})

test('metrics tell what is used', async () => {
  await using sandbox = await create()
  const before = await sandbox.getMetrics()
  expect(before).toMatchObject({ tasks: 0, threads: 0, checkpoints: 0, clients: 1, runningCommands: 0 })
  expect(before.diskIsLowerBound).toBe(false)
  expect(before.engine.rssBytes).toBeGreaterThan(1 << 20)
  const eater = await sandbox.commands.run(
    [
      'python3',
      '-u',
      '-c',
      'import threading, time\nkept = bytearray(64 << 20)\nthreading.Thread(target=time.sleep, args=(60,)).start()\n' +
        'open("/workspace/big", "wb").write(b"x" * (8 << 20))\n' +
        'while time.process_time() < 0.2: pass\nprint("done")\ntime.sleep(60)',
    ],
    { background: true },
  )
  await until('it has eaten', () => eater.stdout === 'done\n', 30_000)
  await sandbox.checkpoint()
  const after = await sandbox.getMetrics()
  expect(after).toMatchObject({ tasks: 1, threads: 2, checkpoints: 1, runningCommands: 1 })
  expect(after.memoryBytes - before.memoryBytes).toBeGreaterThan(64 << 20)
  expect(after.memoryBytes - before.memoryBytes).toBeLessThan(128 << 20)
  expect(after.diskBytes - before.diskBytes).toBeGreaterThanOrEqual(8 << 20)
  expect(after.cpuUs - before.cpuUs).toBeGreaterThanOrEqual(190_000)
  expect(after.pageStoreBytes).toBeGreaterThan(0)
  expect(after.uptimeMs).toBeGreaterThan(before.uptimeMs)
  await eater.kill()
  await eater.wait()
  // What ended is not forgotten.
  expect((await sandbox.getMetrics()).cpuUs).toBeGreaterThanOrEqual(after.cpuUs)
})

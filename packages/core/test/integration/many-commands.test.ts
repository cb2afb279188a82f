// Commands leave nothing behind: DELTABOX_MANY_COMMANDS=10000 for a longer run.
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const COUNT = Number(process.env['DELTABOX_MANY_COMMANDS'] ?? 1000)
const AT_ONCE = 8
const TIMEOUT_MS = 60_000 + COUNT * 60
/** Allocators keep some; a leak of 1 KiB a command would be more in 10,000. */
const SLACK_BYTES = 6 << 20

interface Held {
  readonly engineFds: number
  readonly initFds: number
  readonly clientFds: number
  readonly engineMounts: number
  readonly tasks: number
  readonly runningCommands: number
}

const openFds = (pid: number | 'self') => readdirSync(`/proc/${pid}/fd`).length
const lines = (path: string) => readFileSync(path, 'utf8').split('\n').length
const rssBytes = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024

async function held(sandbox: Sandbox): Promise<Held> {
  const { enginePid, initPid, tasks } = await sandbox.getInfo()
  const { engine, runningCommands } = await sandbox.getMetrics()
  return {
    engineFds: engine.openFds,
    initFds: openFds(initPid),
    clientFds: openFds('self'),
    engineMounts: lines(`/proc/${enginePid}/mountinfo`),
    tasks,
    runningCommands,
  }
}

/** One of each kind of command, by turns. */
async function runOne({ commands, pty }: Sandbox, index: number): Promise<void> {
  switch (index % 8) {
    case 0: {
      const background = await commands.run(['cat'], { background: true })
      await background.sendStdin('x')
      await background.closeStdin()
      expect((await background.wait()).stdout).toBe('x')
      break
    }
    case 1:
      expect((await commands.run(['cat'], { stdin: 'y' })).stdout).toBe('y')
      break
    case 2:
      await expect(commands.run(['no-such-program'])).rejects.toMatchObject({ code: 'COMMAND_NOT_FOUND' })
      break
    case 3:
      await expect(commands.run(['sleep', '60'], { timeoutMs: 20 })).rejects.toMatchObject({ code: 'TIMEOUT' })
      break
    case 4: {
      const shell = await pty.create({ command: ['bash', '-c', 'read line; echo "$line"'] })
      await shell.sendInput('z\n')
      expect(await shell.wait()).toMatchObject({ exitCode: 0, signal: null })
      break
    }
    case 5:
      // Leaves a child behind, which ends by itself.
      expect((await commands.run('sleep 0.01 & exit 3')).exitCode).toBe(3)
      break
    case 6:
      await expect(commands.run('true', { cwd: '/nowhere' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
      break
    default:
      expect((await commands.run(['true'])).exitCode).toBe(0)
  }
}

async function runMany(sandbox: Sandbox, count: number): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < count) await runOne(sandbox, next++)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  await until('nothing runs', async () => {
    const { tasks, runningCommands } = await held(sandbox)
    return tasks === 0 && runningCommands === 0
  })
}

test(`${COUNT} commands leave no descriptor, mount, process or memory`, { timeout: TIMEOUT_MS }, async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const { enginePid, initPid } = await sandbox.getInfo()
  // More than the ended commands that an engine remembers, so that both sides have grown to their size.
  await runMany(sandbox, 320)
  const before = await held(sandbox)
  const memoryBefore = [rssBytes(enginePid), rssBytes(initPid)]
  const heapBefore = process.memoryUsage().heapUsed
  await runMany(sandbox, COUNT)
  expect(await held(sandbox)).toEqual(before)
  const [engineBefore = 0, initBefore = 0] = memoryBefore
  expect(rssBytes(enginePid) - engineBefore).toBeLessThan(SLACK_BYTES)
  expect(rssBytes(initPid)).toBe(initBefore)
  // The collector has not run at the same moment both times: this finds only what is large.
  expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(64 << 20)
  expect((await sandbox.commands.list()).length).toBeLessThanOrEqual(256)
})

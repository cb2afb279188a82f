import { setMaxListeners } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { InvalidArgumentError, type Command } from 'commander'
import { isDeltaboxError } from '../../errors/deltabox-error.js'
import type { SandboxMetrics } from '../../sandbox/options.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { renderBytes } from '../../text/bytes.js'
import { printable } from '../../text/printable.js'
import { renderTable } from '../../text/table.js'
import { action, jsonOption, type CliContext, type JsonOption } from '../context.js'

const DEFAULT_INTERVAL_MS = 2_000
const MIN_INTERVAL_MS = 100
/** Where a terminal shows them, each look takes the place of the one before. */
const CLEAR_SCREEN = process.stdout.isTTY ? '\x1b[H\x1b[2J' : ''

const HEADINGS = [
  'ID',
  'NAME',
  'CPU %',
  'MEMORY',
  'TASKS',
  'COMMANDS',
  'CHECKPOINTS',
  'HOT',
  'DISK',
  'ENGINE',
  'LAST PAUSE',
]

interface TopFlags extends JsonOption {
  readonly interval: number
  readonly once?: boolean
}

/** What one sandbox uses at a moment. */
interface Look {
  readonly id: string
  readonly name: string
  /** Processor time of its processes and of its engine, in microseconds. */
  readonly cpuUs: number
  readonly atMs: number
  readonly metrics: SandboxMetrics
  /** Of the newest checkpoint that no rollback took; null where there is none. */
  readonly lastPauseMs: number | null
}

export function registerTop(program: Command, context: CliContext): void {
  program
    .command('top')
    .description('show what the running sandboxes use, again and again until Ctrl-C')
    .option('--interval <ms>', 'time between two looks', intervalOf, DEFAULT_INTERVAL_MS)
    .option('--once', 'look once; the share of the processor is that since the start of each engine')
    .addOption(jsonOption())
    .action(
      action(context, async ({ interval, once = false, json = false }: TopFlags) => {
        // Each sandbox that is looked at listens to it: as many as there are.
        setMaxListeners(0, context.interrupted)
        let before: readonly Look[] = []
        for (;;) {
          const looks = await lookAtAll(context.interrupted)
          const rows = looks.map((look) => ({ ...look, cpuPercent: cpuPercent(look, before) }))
          if (json) context.stdout(`${JSON.stringify(rows)}\n`)
          else context.stdout(`${once ? '' : CLEAR_SCREEN}${render(rows)}\n`)
          before = looks
          if (once || !(await sleep(interval, context.interrupted))) return
        }
      }),
    )
}

function intervalOf(text: string): number {
  const ms = Number(text)
  if (Number.isInteger(ms) && ms >= MIN_INTERVAL_MS) return ms
  throw new InvalidArgumentError(`It is a whole number of milliseconds, at least ${MIN_INTERVAL_MS}.`)
}

/** False when it was interrupted. */
async function sleep(ms: number, interrupted: AbortSignal): Promise<boolean> {
  await setTimeout(ms, undefined, { signal: interrupted }).catch(() => undefined)
  return !interrupted.aborted
}

async function lookAtAll(signal: AbortSignal): Promise<Look[]> {
  const running = (await Sandbox.list()).filter(({ state }) => state === 'running')
  const looks = await Promise.all(running.map(({ id, metadata }) => lookAt(id, metadata['name'] ?? '', signal)))
  return looks.filter((look) => look !== undefined)
}

/** Undefined for one that has ended meanwhile. */
async function lookAt(id: string, name: string, signal: AbortSignal): Promise<Look | undefined> {
  try {
    const sandbox = await Sandbox.connect(id, { signal })
    try {
      const [metrics, { checkpoints }] = await Promise.all([sandbox.getMetrics(), sandbox.listCheckpoints()])
      const cpuUs = metrics.cpuUs + metrics.engine.cpuUs
      const last = checkpoints.findLast(({ isSafety }) => !isSafety)
      return { id, name, cpuUs, atMs: performance.now(), metrics, lastPauseMs: last?.pauseMs ?? null }
    } finally {
      sandbox.disconnect()
    }
  } catch (error) {
    if (isDeltaboxError(error) && ['SANDBOX_NOT_FOUND', 'SANDBOX_DEAD', 'ENGINE_LOST'].includes(error.code)) return
    throw error
  }
}

/** Of one processor, since the look before; since the start of the engine where there was none. */
function cpuPercent({ id, cpuUs, atMs, metrics }: Look, before: readonly Look[]): number {
  const last = before.find((look) => look.id === id)
  const [usedUs, passedMs] = last === undefined ? [cpuUs, metrics.uptimeMs] : [cpuUs - last.cpuUs, atMs - last.atMs]
  return Math.max(0, usedUs / 10 / Math.max(passedMs, 1))
}

function render(rows: readonly (Look & { readonly cpuPercent: number })[]): string {
  if (rows.length === 0) return 'no running sandboxes'
  return renderTable(
    HEADINGS,
    rows.map(({ id, name, cpuPercent, metrics, lastPauseMs }) => [
      ...[id, printable(name), cpuPercent.toFixed(1), renderBytes(metrics.memoryBytes)],
      ...[`${metrics.tasks}`, `${metrics.runningCommands}`],
      `${metrics.checkpoints}${metrics.coldCheckpoints === 0 ? '' : ` (${metrics.coldCheckpoints} cold)`}`,
      ...[renderBytes(metrics.pageStoreBytes), renderBytes(metrics.diskBytes), renderBytes(metrics.engine.rssBytes)],
      lastPauseMs === null ? '' : `${lastPauseMs.toFixed(2)} ms`,
    ]),
  )
}

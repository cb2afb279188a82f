import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import type { Command } from 'commander'
import { z } from 'zod'
import { fromSystemError } from '../../errors/convert.js'
import { DeltaboxError } from '../../errors/deltabox-error.js'
import { native } from '../../protocol/native.js'
import { prepareStateDir } from '../../state/state-dir.js'
import { action, jsonOption, type CliContext, type JsonOption } from '../context.js'
import { renderTable } from '../../text/table.js'

/** One thing that the engine tried, as it prints it: one JSON object per line. */
const probeSchema = z.object({
  name: z.string(),
  ok: z.boolean(),
  /** Sandboxes work without what is not required, with less speed or comfort. */
  required: z.boolean().default(true),
  detail: z.string(),
  next: z.string().default(''),
})
type Probe = z.output<typeof probeSchema>

/** Every probe does something that takes milliseconds; together they stay far below this. */
const DOCTOR_TIMEOUT_MS = 60_000

export function registerDoctor(program: Command, context: CliContext): void {
  program
    .command('doctor')
    .description('try everything that sandboxes need on this machine, and say what to change')
    .addOption(jsonOption())
    .action(
      action(context, async (flags: JsonOption) => {
        const { output, exitCode } = await runDoctor(await prepareStateDir())
        context.stdout(flags.json === true ? output : renderProbes(parseProbes(output)))
        context.setExitCode(exitCode)
      }),
    )
}

async function runDoctor(stateDir: string): Promise<{ output: string; exitCode: number }> {
  const { enginePath } = native()
  const engine = spawn(enginePath, ['doctor', '--state-dir', stateDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: DOCTOR_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  const ended = new Promise<number>((resolve, reject) => {
    engine.once('error', reject)
    engine.once('close', (code) => resolve(code ?? 1))
  })
  try {
    const [output, exitCode] = await Promise.all([text(engine.stdout), ended])
    return { output, exitCode }
  } catch (error) {
    throw fromSystemError(error, 'running the engine’s doctor')
  }
}

function parseProbes(output: string): Probe[] {
  const lines = output.split('\n').filter((line) => line !== '')
  try {
    return lines.map((line) => probeSchema.parse(JSON.parse(line)))
  } catch (cause) {
    throw new DeltaboxError('PROTOCOL', {
      message: 'the engine’s doctor printed something that is no probe',
      nextStep: 'use an engine and a client of the same version: rebuild with `npm run build`',
      cause,
    })
  }
}

function renderProbes(probes: readonly Probe[]): string {
  const table = renderTable(
    ['', 'PROBE', 'FOUND'],
    probes.map(({ name, ok, required, detail }) => [ok ? 'ok' : required ? 'NO' : '--', name, detail]),
  )
  const steps = probes.filter(({ ok, next }) => !ok && next !== '').map(({ name, next }) => `next: ${name}: ${next}`)
  return [table, ...steps].join('\n') + '\n'
}

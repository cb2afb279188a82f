import { spawn } from 'node:child_process'
import { json } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

const driverPath = fileURLToPath(new URL('terminal.py', import.meta.url))
const cliPath = fileURLToPath(new URL('../../bin/deltabox.js', import.meta.url))

/** What the person in front of the terminal does; see terminal.py. */
export type TerminalStep =
  | { readonly expect: string }
  | { readonly send: string }
  | { readonly resize: readonly [rows: number, columns: number] }
  | { readonly signal: number }

/** How the program ended; `missing` is what was waited for in vain. */
export interface TerminalSession {
  readonly output: string
  /** Negative: the signal that ended it. */
  readonly status?: number
  readonly modesRestored?: boolean
  readonly missing?: string
}

/** Runs the built `deltabox` on a real terminal. */
export async function deltaboxOnTerminal(
  args: readonly string[],
  steps: readonly TerminalStep[],
): Promise<TerminalSession> {
  const driver = spawn('python3', [driverPath], { stdio: ['pipe', 'pipe', 'inherit'] })
  driver.stdin.end(JSON.stringify({ argv: [process.execPath, cliPath, ...args], steps }))
  return (await json(driver.stdout)) as TerminalSession
}

import { constants } from 'node:os'

/** As a shell reports an end by signal. */
const SIGNAL_EXIT_BASE = 128

/** What a program should exit with that ran this command. */
export function toExitCode(result: { readonly exitCode: number | null; readonly signal: string | null }): number {
  return result.exitCode ?? signalExitCode(result.signal as NodeJS.Signals)
}

/** 130 for SIGINT. */
export function signalExitCode(signal: NodeJS.Signals): number {
  return SIGNAL_EXIT_BASE + (constants.signals[signal] ?? 0)
}

import { closeSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { errnoName } from '../errors/convert.js'
import { native } from '../protocol/native.js'
import { readEndedMark } from '../state/ended.js'
import { removeSandbox } from '../state/remove-sandbox.js'
import { readSandboxRecord, sandboxDirPath } from '../state/sandbox-dir.js'

/** An engine takes milliseconds to come up; on a machine that needs longer something hangs. */
export const CREATE_TIMEOUT_MS = 60_000

/** An engine that has ended still takes a connection for the moment in which the kernel closes its socket. */
export const GONE_TRIES = 50
export const GONE_PAUSE_MS = 20

/** What is known of a sandbox from its directory and from whether somebody answers for it. */
export type EngineState = 'creating' | 'running' | 'dead'

/** Whether an engine takes connections. */
export function isListening(id: string): boolean {
  try {
    closeSync(native().addon.connectEngine(sandboxDirPath(id)))
    return true
  } catch (error) {
    // Only these two say that nobody listens; anything else (a full queue) is a living engine.
    const osError = errnoName(error)
    if (osError === 'ENOENT' || osError === 'ECONNREFUSED') return false
    if (osError === undefined) throw error
    return true
  }
}

/** The record is what a creation writes last; one that has not written it within its time is none any more. */
export async function isBeingCreated(id: string): Promise<boolean> {
  if ((await readSandboxRecord(id)) !== undefined) return false
  try {
    return Date.now() - (await stat(sandboxDirPath(id))).ctimeMs < CREATE_TIMEOUT_MS
  } catch {
    return false
  }
}

/** How a sandbox stands. */
export async function engineState(id: string): Promise<EngineState> {
  if (await isBeingCreated(id)) return 'creating'
  return isListening(id) ? 'running' : 'dead'
}

/** Removes what a sandbox left that ended itself. @returns whether it was one. */
export async function removeIfEnded(id: string): Promise<boolean> {
  if ((await readEndedMark(id)) === undefined || isListening(id)) return false
  await removeSandbox(id)
  return true
}

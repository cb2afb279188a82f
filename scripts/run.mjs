// Child processes as these scripts need them.
import { spawn, spawnSync } from 'node:child_process'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository's root. */
export const rootDir = dirname(dirname(fileURLToPath(import.meta.url)))

/** Runs a program with our own streams; its exit code. */
export function run(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: rootDir, stdio: 'inherit', ...options })
    child.once('error', (error) => {
      console.error(`${command}: ${error.message}`)
      resolve(127)
    })
    child.once('close', (code) => resolve(code ?? 1))
  })
}

/** Runs a program and keeps what it prints; undefined when it fails or can't be started. */
export function capture(command, args, options = {}) {
  const { status, stdout } = spawnSync(command, args, {
    cwd: rootDir,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    ...options,
  })
  return status === 0 ? stdout.trim() : undefined
}

/** Ends this script with a message that says what to do. */
export function giveUp(message, nextStep) {
  console.error(`error: ${message}\nnext: ${nextStep}`)
  process.exit(1)
}

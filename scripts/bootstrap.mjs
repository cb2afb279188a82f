// From a fresh clone to a complete build: checks the platform, installs what is missing, builds. Running it again on a
// complete checkout only checks.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { BUILD_PACKAGES, installDebianPackages } from './debian-packages.mjs'
import { capture, giveUp, rootDir, run } from './run.mjs'

const MIN_NODE_MAJOR = 20

function checkPlatform() {
  const major = Number(process.versions.node.split('.')[0])
  if (major < MIN_NODE_MAJOR) {
    giveUp(`Node ${process.versions.node} is too old`, `install Node ${MIN_NODE_MAJOR} or newer`)
  }
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    giveUp(
      `DeltaBox is built on linux x64; this is ${process.platform} ${process.arch}`,
      'use a Linux x86-64 machine, or a Linux x86-64 virtual machine',
    )
  }
}

/** The pinned pnpm as a command line: by corepack where that works, else by npx. */
function pnpmCommand() {
  const { packageManager } = JSON.parse(readFileSync(join(rootDir, 'package.json'), 'utf8'))
  const version = packageManager.split('@')[1]
  const env = { ...process.env, COREPACK_ENABLE_DOWNLOAD_PROMPT: '0' }
  if (capture('corepack', ['pnpm', '--version'], { env, timeout: 60_000 }) === version) return ['corepack', 'pnpm']
  return ['npx', '--yes', `pnpm@${version}`]
}

checkPlatform()
await installDebianPackages(BUILD_PACKAGES)
const [program, ...pnpm] = pnpmCommand()
const env = {
  ...process.env,
  COREPACK_ENABLE_DOWNLOAD_PROMPT: '0',
  TURBO_TELEMETRY_DISABLED: '1',
  TURBO_NO_UPDATE_NOTIFIER: '1',
  // pnpm asks before it replaces node_modules unless it knows that nobody answers.
  CI: process.env.CI ?? 'true',
}
if ((await run(program, [...pnpm, 'install', '--frozen-lockfile'], { env })) !== 0) {
  giveUp('installing the npm packages failed', 'check that the npm registry can be reached, and run it again')
}
if ((await run(program, [...pnpm, 'exec', 'turbo', 'run', 'build', '--output-logs=errors-only'], { env })) !== 0) {
  giveUp('the build failed', 'see the messages above')
}

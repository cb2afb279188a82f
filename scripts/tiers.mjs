// The tiers of tests, run by whoever runs this file: prints what they print and writes
// the counts of each tier to OUTPUT_DIR/results.json. Usage: node scripts/tiers.mjs OUTPUT_DIR
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootDir, run } from './run.mjs'

const outputDir = process.argv[2]
const nativeTestsDir = join(rootDir, 'packages/native/build/release/tests')

/** Runs a doctest executable; its own summary says the counts. */
function runDoctest(path) {
  return new Promise((resolve) => {
    let text = ''
    const child = spawn(path, [], { cwd: outputDir, stdio: ['ignore', 'pipe', 'inherit'] })
    child.stdout.on('data', (chunk) => {
      text += chunk
      process.stdout.write(chunk)
    })
    child.once('error', (error) => resolve({ passed: 0, failed: 1, why: error.message }))
    child.once('close', (code) => {
      const plain = text.replace(/\x1b\[[0-9;]*m/g, '')
      const summary = /test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed/.exec(plain)
      const passed = Number(summary?.[2] ?? 0)
      // A crash prints no summary, or ends with a code that the summary does not explain.
      const failed = Math.max(Number(summary?.[3] ?? 0), code === 0 && summary !== null ? 0 : 1)
      resolve({ passed, failed })
    })
  })
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

async function runNative() {
  const total = { passed: 0, failed: 0 }
  const executables = existsSync(nativeTestsDir) ? readdirSync(nativeTestsDir, { withFileTypes: true }) : []
  for (const entry of executables.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (!entry.isFile() || !isExecutable(join(nativeTestsDir, entry.name))) continue
    console.log(`-- ${entry.name}`)
    const { passed, failed } = await runDoctest(join(nativeTestsDir, entry.name))
    total.passed += passed
    total.failed += failed
  }
  return total
}

async function runVitest(packageName) {
  const outputFile = join(outputDir, `vitest-${packageName}.json`)
  const code = await run(
    process.execPath,
    [
      join(rootDir, 'node_modules/vitest/vitest.mjs'),
      'run',
      // The default loader writes beside the configuration, which may be read-only.
      '--configLoader=runner',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${outputFile}`,
    ],
    { cwd: join(rootDir, 'packages', packageName) },
  )
  if (!existsSync(outputFile)) return { passed: 0, failed: 1 }
  const { numPassedTests: passed, numFailedTests } = JSON.parse(readFileSync(outputFile, 'utf8'))
  // A file that can't be loaded, or an unhandled rejection, fails the run without failing a test.
  return { passed, failed: Math.max(numFailedTests, code === 0 ? 0 : 1) }
}

const tiers = [
  ['native: units and system calls', runNative],
  ['native: addon', () => runVitest('native')],
  ['core', () => runVitest('core')],
  ['mcp-server', () => runVitest('mcp-server')],
  ['langchain-tool', () => runVitest('langchain-tool')],
]

const results = []
for (const [name, runTier] of tiers) {
  console.log(`\n=== ${name} (uid ${process.getuid()}) ===`)
  const counts = await runTier()
  results.push({ name, ...counts })
}
writeFileSync(join(outputDir, 'results.json'), JSON.stringify(results))

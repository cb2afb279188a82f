// `npm test`: builds, checks formatting and lint rules, then runs every tier twice: as root, and as an ordinary user
// without capabilities. The last line is "N passed, N failed".
import { chownSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { checks } from './checks.mjs'
import { installDebianPackages, TEST_PACKAGES } from './debian-packages.mjs'
import { runNodeAs, unusedUid } from './ordinary-user.mjs'
import { run } from './run.mjs'

// A real disk: overlay uppers can't lie on an overlay, and /tmp may be memory.
const WORK_PARENT = '/var/tmp'
const total = { passed: 0, failed: 0 }
const problems = []

function add({ name, passed, failed }, who) {
  total.passed += passed
  total.failed += failed
  if (failed > 0) problems.push(`${name} ${who}: ${failed} failed`)
  if (passed + failed === 0) {
    problems.push(`${name} ${who}: no test ran`)
    total.failed += 1
  }
  console.log(`${name} ${who}: ${passed} passed, ${failed} failed`)
}

/** A directory for one run, as $HOME and for everything temporary, owned by the uid that runs. */
function makeWorkDir(uid) {
  const dir = mkdtempSync(join(WORK_PARENT, 'deltabox-tests-'))
  for (const path of [dir, join(dir, 'home'), join(dir, 'tmp'), join(dir, 'state')]) {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    if (process.getuid() === 0) chownSync(path, uid, uid)
  }
  const env = {
    ...process.env,
    HOME: join(dir, 'home'),
    TMPDIR: join(dir, 'tmp'),
    DELTABOX_TEST_DIR: join(dir, 'tmp'),
    DELTABOX_STATE_DIR: join(dir, 'state'),
  }
  delete env.XDG_STATE_HOME
  return { dir, env }
}

/** Runs every tier as `uid` and counts what came out. What it prints goes to `output`, until its end to a file. */
async function runTiers(uid, who, output) {
  const { dir, env } = makeWorkDir(uid)
  const log = join(dir, 'output.txt')
  const file = openSync(log, 'w')
  const options = { env, stdio: output === 'at the end' ? ['ignore', file, file] : 'inherit' }
  if (uid === process.getuid()) await run(process.execPath, ['scripts/tiers.mjs', dir], options)
  else await runNodeAs(uid, 'scripts/tiers.mjs', [dir], options)
  return () => {
    if (output === 'at the end') process.stdout.write(readFileSync(log))
    report(dir, who)
  }
}

function report(dir, who) {
  const failedBefore = total.failed
  const resultsFile = join(dir, 'results.json')
  console.log(`\n=== results ${who} ===`)
  if (existsSync(resultsFile)) {
    for (const result of JSON.parse(readFileSync(resultsFile, 'utf8'))) add(result, who)
  } else {
    add({ name: 'all tiers', passed: 0, failed: 1 }, who)
  }
  if (total.failed === failedBefore) rmSync(dir, { recursive: true, force: true })
  else console.log(`kept for inspection: ${dir}`)
}

await installDebianPackages(TEST_PACKAGES)
const built = await run(process.execPath, ['scripts/bootstrap.mjs'])
if (built !== 0) {
  console.log('0 passed, 1 failed')
  process.exit(1)
}

console.log('\n=== formatters and linters ===')
for (const { name, command, check } of checks()) {
  const ok = (await run(command, check)) === 0
  add({ name, passed: ok ? 1 : 0, failed: ok ? 0 : 1 }, '')
}

if (process.getuid() === 0) {
  // Both at once: each spends half of its time waiting.
  const reports = await Promise.all([
    runTiers(0, 'as root', 'at once'),
    runTiers(unusedUid(), 'as an ordinary user', 'at the end'),
  ])
  for (const report of reports) report()
} else {
  const report = await runTiers(process.getuid(), 'as an ordinary user', 'at once')
  report()
  console.log('\nthe tiers were not run as root: run `npm test` as root for that')
  if (process.env.CI === 'true') {
    problems.push('the tiers were not run as root')
    total.failed += 1
  }
}

for (const problem of problems) console.log(`problem: ${problem}`)
console.log(`${total.passed} passed, ${total.failed} failed`)
process.exit(total.failed === 0 ? 0 : 1)

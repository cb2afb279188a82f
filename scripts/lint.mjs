// Checks formatting and lint rules of both languages; changes nothing.
import { checks } from './checks.mjs'
import { run } from './run.mjs'

let exitCode = 0
for (const { name, command, check } of checks()) {
  const ok = (await run(command, check)) === 0
  console.log(`${ok ? 'ok' : 'NO'}  ${name}`)
  if (!ok) exitCode = 1
}
process.exit(exitCode)

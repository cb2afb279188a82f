// Formats both languages and repairs what the linters can.
import { checks } from './checks.mjs'
import { run } from './run.mjs'

for (const { command, repair } of checks()) if (repair !== undefined) await run(command, repair)

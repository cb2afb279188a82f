import { readFileSync } from 'node:fs'
import { agentTools, renderToolTables } from '@deltabox/core/tools'
import { expect, test } from 'vitest'

test('the tables in the README are those of the schemas (repair: node scripts/readme-tools.mjs)', () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  expect(readme).toContain(`\n${renderToolTables(agentTools)}\n\n<!-- /tools -->`)
})

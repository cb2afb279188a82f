import { readFileSync } from 'node:fs'
import { createFlags } from '@deltabox/core'
import { agentTools, renderToolTables } from '@deltabox/core/tools'
import { expect, test } from 'vitest'
import { renderFlagTable } from '../../src/flag-table.js'

test('the tables in the README are those of the definitions (repair: node scripts/readme-tools.mjs)', () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  expect(readme).toContain(`\n${renderToolTables(agentTools)}\n\n<!-- /tools -->`)
  expect(readme).toContain(`\n${renderFlagTable(createFlags)}\n\n<!-- /flags -->`)
})

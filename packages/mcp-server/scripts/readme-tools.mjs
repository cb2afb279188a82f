// Writes the tables of the flags and of the tools, from their definitions, into README.md. A test checks that they are up
// to date.
import { readFileSync, writeFileSync } from 'node:fs'
import { createFlags } from '@deltabox/core'
import { agentTools, renderToolTables } from '@deltabox/core/tools'
import { renderFlagTable } from '../dist/flag-table.js'

const path = new URL('../README.md', import.meta.url)
const put = (text, mark, table) =>
  text.replace(
    new RegExp(`(<!-- ${mark}: [^>]*-->\\n)[\\s\\S]*(<!-- /${mark} -->)`),
    (_, begin, end) => `${begin}\n${table}\n\n${end}`,
  )
const readme = readFileSync(path, 'utf8')
writeFileSync(path, put(put(readme, 'flags', renderFlagTable(createFlags)), 'tools', renderToolTables(agentTools)))

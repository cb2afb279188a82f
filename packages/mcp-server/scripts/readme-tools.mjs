// Writes the tables of the tools, from their schemas, into README.md. A test checks that they are up to date.
import { readFileSync, writeFileSync } from 'node:fs'
import { agentTools, renderToolTables } from '@deltabox/core/tools'

const path = new URL('../README.md', import.meta.url)
const marked = /(<!-- tools: [^>]*-->\n)[\s\S]*(<!-- \/tools -->)/
const readme = readFileSync(path, 'utf8')
writeFileSync(
  path,
  readme.replace(marked, (_, begin, end) => `${begin}\n${renderToolTables(agentTools)}\n\n${end}`),
)

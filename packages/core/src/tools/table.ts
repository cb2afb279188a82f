import { z } from 'zod'
import type { AgentTool } from './define-tool.js'

const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

/** The tools and their inputs as Markdown tables, from their schemas. */
export function renderToolTables(tools: readonly AgentTool[]): string {
  return tools
    .map(({ name, description, inputSchema }) => {
      const { properties = {}, required = [] } = z.toJSONSchema(inputSchema)
      const rows = Object.entries(properties).map(([input, schema]) => {
        const { type, description: meaning } = schema as { type?: string; description?: string }
        return `| \`${input}\` | ${type ?? ''} | ${required.includes(input) ? 'yes' : 'no'} | ${cell(meaning ?? '')} |`
      })
      const table = ['| Input | Type | Required | Meaning |', '|---|---|---|---|', ...rows]
      return [`### \`${name}\``, '', description, '', ...(rows.length === 0 ? ['No inputs.'] : table)].join('\n')
    })
    .join('\n\n')
}

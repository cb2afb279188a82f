import type { CreateFlag } from '@deltabox/core'

/** The flags as a Markdown table. */
export function renderFlagTable(flags: readonly CreateFlag[]): string {
  const rows = flags.map(({ name, argument = '', description }) => {
    return `| \`${`${name} ${argument}`.trim()}\` | ${description.replaceAll('|', '\\|')} |`
  })
  return ['| Flag | Meaning |', '|---|---|', ...rows].join('\n')
}

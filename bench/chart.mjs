/** A Mermaid chart of lines, fenced for Markdown viewers. It has no scale but categories: equal steps only. */
export function chart(title, x, y, { categories, lines }) {
  const round = (values) => values.map((value) => Math.round(value * 10) / 10).join(', ')
  return [
    '```mermaid',
    'xychart-beta',
    `  title "${title}"`,
    `  x-axis "${x}" [${categories.join(', ')}]`,
    `  y-axis "${y}"`,
    ...lines.map((line) => `  line [${round(line)}]`),
    '```',
  ].join('\n')
}

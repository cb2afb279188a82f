// The curves as Mermaid charts, which Markdown viewers draw: for docs/benchmarks.md.

/** @returns fenced blocks */
export function renderPlots({ checkpointCurve, footprintCurve, sandboxCurve }) {
  // A chart of categories has no scale: equal steps only.
  const evenly = checkpointCurve.filter(({ checkpoints }) => checkpoints % 1000 === 0)
  return [
    ...(evenly.length > 1
      ? [
          chart('Engine memory and disk of one sandbox, all checkpoints hot', 'checkpoints', 'MB', {
            categories: evenly.map(({ checkpoints }) => checkpoints),
            lines: [evenly.map(({ engineMb }) => engineMb), evenly.map(({ diskMb }) => diskMb)],
          }),
        ]
      : []),
    chart('Memory of a sandbox with ten checkpoints: processes, engine hot, engine cold', 'footprint in MB', 'MB', {
      categories: footprintCurve.map(({ footprintMb }) => footprintMb),
      lines: [
        footprintCurve.map(({ hot }) => hot.processesMb),
        footprintCurve.map(({ hot }) => hot.engineMb),
        footprintCurve.map(({ cold }) => cold.engineMb),
      ],
    }),
    chart('Memory of all sandboxes: processes and engines', 'sandboxes', 'MB', {
      categories: sandboxCurve.map(({ sandboxes }) => sandboxes),
      lines: [sandboxCurve.map(({ sandboxes, processesMb, engineMb }) => sandboxes * (processesMb + engineMb))],
    }),
  ].join('\n\n')
}

function chart(title, x, y, { categories, lines }) {
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

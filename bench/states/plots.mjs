// The curves as Mermaid charts, which Markdown viewers draw: for docs/benchmarks.md.

import { chart } from '../chart.mjs'

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

import { chart } from '../chart.mjs'

const PERCENT = 100

/** @returns a fenced block */
export function renderSlowdown(points) {
  return chart('What a checkpoint every second takes of a program’s work', 'pages written per second', 'percent', {
    categories: points.map(({ rate }) => (rate < 0 ? 'max' : rate)),
    lines: [points.map(({ lost }) => lost.p50 * PERCENT), points.map(({ stoodStill }) => stoodStill.p50 * PERCENT)],
  })
}

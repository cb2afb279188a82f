/** The value below which this fraction of the samples lies (nearest rank). */
export function quantile(samples, fraction) {
  const sorted = [...samples].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)]
}

/** Median and 95th percentile. */
export function summarise(samples) {
  return { p50: quantile(samples, 0.5), p95: quantile(samples, 0.95), n: samples.length }
}

/** The same for each field of equal records. */
export function summariseFields(records) {
  return Object.fromEntries(
    Object.keys(records[0]).map((field) => [field, summarise(records.map((record) => record[field]))]),
  )
}

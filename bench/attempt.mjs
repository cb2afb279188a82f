// What a machine can't run is said in its place: the rest is measured all the same.

/** Results by name of measurements that may fail, one after the other; of those that did, the reason. */
export async function attemptAll(measurements) {
  const results = {}
  for (const [name, measure] of Object.entries(measurements)) {
    try {
      results[name] = await measure()
    } catch (error) {
      console.error(`not run: ${name}: ${error.stack}`)
      results[name] = { notRun: firstLine(error) }
    }
  }
  return results
}

const firstLine = (error) => (String(error.stderr ?? '').trim() || error.message).split('\n')[0]

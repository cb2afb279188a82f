const POLL_MS = 20

/** Waits until something holds of a checkpoint as the sandbox lists it. */
export async function until(sandbox, { id }, holds) {
  for (;;) {
    const { checkpoints } = await sandbox.listCheckpoints()
    if (checkpoints.some((checkpoint) => checkpoint.id === id && holds(checkpoint))) return
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

import type { Sandbox } from '../../src/index.js'
import { until } from './state.js'

/** The pids inside, but for init. */
export async function processesOf(sandbox: Sandbox): Promise<number[]> {
  const entries = await sandbox.files.list('/proc')
  return entries.map(({ name }) => Number(name)).filter((pid) => pid > 1)
}

/** Kills one process inside and waits for its end; its parent may leave a zombie. */
export async function killOne(sandbox: Sandbox, pid: number): Promise<void> {
  await sandbox.commands.run(['kill', '-9', String(pid)])
  await until(`the end of ${pid}`, async () => {
    const stat = await sandbox.files.read(`/proc/${pid}/stat`).catch(() => ') Z')
    return /\) [ZX]/.test(stat)
  })
}

/** Kills all inside but init, and waits for their ends. */
export async function killAll(sandbox: Sandbox): Promise<void> {
  await sandbox.commands.run('kill -9 -1')
  await until('the end of all', async () => (await sandbox.getInfo()).tasks === 0)
}

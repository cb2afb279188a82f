import { Sandbox } from '../../src/index.js'
import { until } from './state.js'

/** A state that says which it is, in two volumes. */
export const read = async (sandbox: Sandbox) => (await sandbox.commands.run('cat /workspace/number /tmp/other')).stdout
export const write = (sandbox: Sandbox, n: number | string) =>
  sandbox.commands.run(`echo ${n} > /workspace/number; echo ${n} > /tmp/other; sync`)

/** As a crash would: nothing is written down any more. */
export async function killEngine(sandbox: Sandbox): Promise<void> {
  const { enginePid } = await sandbox.getInfo()
  process.kill(enginePid, 'SIGKILL')
  await until('the engine is gone', async () => !(await sandbox.isRunning()))
  sandbox.disconnect()
}

/** As the next client would. */
export const comeBack = (id: string) => Sandbox.connect(id)

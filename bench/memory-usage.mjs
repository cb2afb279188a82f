import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const MIB = 1 << 20

/** Memory of one process in MiB: what is its own, and its part of what it shares with others. */
export function processMemory(pid) {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const read = (name) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(rollup)?.[1] ?? 0) / 1024
  const privateMb = read('Private_Clean') + read('Private_Dirty')
  return { privateMb, proportionalMb: read('Pss'), residentMb: read('Rss') }
}

function descendants(pid) {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
  return children.flatMap((child) => [child, ...descendants(child)])
}

/**
 * Of a sandbox in MiB: its processes and its engine, each with its part of what it shares, and what of them is nobody
 * else's.
 */
export async function sandboxMemory(sandbox) {
  const { enginePid, initPid } = await sandbox.getInfo()
  const processes = [initPid, ...descendants(initPid)].map(processMemory)
  const sum = (field) => processes.map((one) => one[field]).reduce((all, one) => all + one, 0)
  const engine = processMemory(enginePid)
  return {
    processesMb: sum('proportionalMb'),
    processesPrivateMb: sum('privateMb'),
    engineMb: engine.proportionalMb,
    enginePrivateMb: engine.privateMb,
  }
}

/** What lies on the disk of these sandboxes, in MiB; a file that several have counts once. */
export function diskMb(ids) {
  const stateDir = process.env.DELTABOX_STATE_DIR ?? '/var/lib/deltabox'
  const dirs = ids.map((id) => join(stateDir, 'sandboxes', id))
  const { stdout } = spawnSync('du', ['-s', '-c', '--block-size=1', ...dirs], { encoding: 'utf8' })
  return Number(/^(\d+)\ttotal$/m.exec(stdout)?.[1]) / MIB
}

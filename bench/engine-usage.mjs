import { readdirSync, readFileSync } from 'node:fs'

const NS_PER_MS = 1e6
// USER_HZ is 100 on every x86-64 kernel.
const MS_PER_TICK = 10

/** CPU time and bytes written of a process so far; bytes are undefined where /proc forbids to read them. */
export function readUsage(pid) {
  // The first number of schedstat is the time on a CPU in nanoseconds; ticks of /proc/PID/stat are as long as ten pauses.
  const cpuNs = readdirSync(`/proc/${pid}/task`)
    .map((tid) => Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]))
    .reduce((sum, ns) => sum + ns, 0)
  return { cpuMs: cpuNs / NS_PER_MS, writtenBytes: readWrittenBytes(pid) }
}

/**
 * The same for differences over many calls: processor time of its first thread, and of all others together, those that
 * have ended meanwhile too.
 */
export function readTotalUsage(pid) {
  const ownThreadCpuMs = Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[0]) / NS_PER_MS
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  const totalMs = (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK
  return { ownThreadCpuMs, backgroundCpuMs: totalMs - ownThreadCpuMs, writtenBytes: readWrittenBytes(pid) }
}

function readWrittenBytes(pid) {
  try {
    return Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1])
  } catch {
    return undefined
  }
}

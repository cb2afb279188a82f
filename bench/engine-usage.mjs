import { readdirSync, readFileSync } from 'node:fs'

/** CPU time and bytes written of a process so far; bytes are undefined where /proc forbids to read them. */
export function readUsage(pid) {
  // The first number of schedstat is the time on a CPU in nanoseconds; ticks of /proc/PID/stat are as long as ten pauses.
  const cpuNs = readdirSync(`/proc/${pid}/task`)
    .map((tid) => Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]))
    .reduce((sum, ns) => sum + ns, 0)
  try {
    const io = readFileSync(`/proc/${pid}/io`, 'utf8')
    return { cpuMs: cpuNs / 1e6, writtenBytes: Number(/^write_bytes: (\d+)$/m.exec(io)?.[1]) }
  } catch {
    return { cpuMs: cpuNs / 1e6, writtenBytes: undefined }
  }
}

import { readFileSync } from 'node:fs'

// The kernel reports times in ticks of USER_HZ, which is 100 on x86-64.
const MS_PER_TICK = 10

/** CPU time and bytes written of a process so far; bytes are undefined where /proc forbids to read them. */
export function readUsage(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const cpuMs = (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK
  try {
    const io = readFileSync(`/proc/${pid}/io`, 'utf8')
    return { cpuMs, writtenBytes: Number(/^write_bytes: (\d+)$/m.exec(io)?.[1]) }
  } catch {
    return { cpuMs, writtenBytes: undefined }
  }
}

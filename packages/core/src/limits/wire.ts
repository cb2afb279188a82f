import type { Limits as WireLimits } from '../protocol/gen/deltabox_pb.js'
import type { Limits } from './options.js'

/** As the schema hands them over. */
type CheckedLimits = { readonly [Name in keyof Limits]?: Limits[Name] | undefined }

/** 0 on the wire is no limit. */
export function toWireLimits(limits: CheckedLimits): {
  memoryBytes: bigint
  cpus: number
  processes: bigint
  openFiles: bigint
  diskBytes: bigint
  outputBytes: bigint
} {
  return {
    memoryBytes: BigInt(limits.memoryBytes ?? 0),
    cpus: limits.cpus ?? 0,
    processes: BigInt(limits.processes ?? 0),
    openFiles: BigInt(limits.openFiles ?? 0),
    diskBytes: BigInt(limits.diskBytes ?? 0),
    outputBytes: BigInt(limits.outputBytes ?? 0),
  }
}

/** Only the limits that there are. */
export function fromWireLimits(wire: WireLimits | undefined): Limits {
  if (wire === undefined) return {}
  return {
    ...(wire.memoryBytes === 0n ? {} : { memoryBytes: Number(wire.memoryBytes) }),
    ...(wire.cpus === 0 ? {} : { cpus: wire.cpus }),
    ...(wire.processes === 0n ? {} : { processes: Number(wire.processes) }),
    ...(wire.openFiles === 0n ? {} : { openFiles: Number(wire.openFiles) }),
    ...(wire.diskBytes === 0n ? {} : { diskBytes: Number(wire.diskBytes) }),
    ...(wire.outputBytes === 0n ? {} : { outputBytes: Number(wire.outputBytes) }),
  }
}

import type { Limits as WireLimits } from '../protocol/gen/deltabox_pb.js'
import type { Limits } from './options.js'

/** As the schema hands them over. */
type CheckedLimits = { readonly [Name in keyof Limits]?: Limits[Name] | undefined }

/** 0 on the wire is no limit. */
export function toWireLimits({ memoryBytes = 0, cpus = 0, processes = 0, openFiles = 0 }: CheckedLimits): {
  memoryBytes: bigint
  cpus: number
  processes: bigint
  openFiles: bigint
} {
  return { memoryBytes: BigInt(memoryBytes), cpus, processes: BigInt(processes), openFiles: BigInt(openFiles) }
}

/** Only the limits that there are. */
export function fromWireLimits(wire: WireLimits | undefined): Limits {
  if (wire === undefined) return {}
  return {
    ...(wire.memoryBytes === 0n ? {} : { memoryBytes: Number(wire.memoryBytes) }),
    ...(wire.cpus === 0 ? {} : { cpus: wire.cpus }),
    ...(wire.processes === 0n ? {} : { processes: Number(wire.processes) }),
    ...(wire.openFiles === 0n ? {} : { openFiles: Number(wire.openFiles) }),
  }
}

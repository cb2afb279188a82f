import type { EngineClient } from '../protocol/engine-client.js'
import type { SandboxInfo as WireInfo } from '../protocol/gen/deltabox_pb.js'
import { fromWireLimits } from '../limits/wire.js'
import type { NetworkOption } from '../network/options.js'
import type { SandboxInfo, SandboxMetrics } from './options.js'

/** Plain data from a message of the engine. */
export function toSandboxInfo(wire: WireInfo): SandboxInfo {
  return {
    id: wire.id,
    workspace: wire.workspace,
    workspaceMount: wire.workspaceMount,
    createdAtMs: Number(wire.createdAtMs),
    enginePid: wire.enginePid,
    initPid: wire.initPid,
    head: wire.head === '' ? null : wire.head,
    checkpoints: Number(wire.checkpoints),
    tasks: Number(wire.tasks),
    pageStoreBytes: Number(wire.pageStoreBytes),
    warnings: [...wire.warnings],
    metadata: { ...wire.metadata },
    idleTimeoutMs: Number(wire.idleTimeoutMs),
    orphanTimeoutMs: Number(wire.orphanTimeoutMs),
    network: toNetwork(wire),
    limits: fromWireLimits(wire.limits),
    memoryBytes: wire.memoryBytes === 0n ? null : Number(wire.memoryBytes),
  }
}

function toNetwork({ network, networkAllow }: WireInfo): NetworkOption {
  if (network === 'allow') return { allow: [...networkAllow] }
  return network === 'host' ? 'host' : 'none'
}

/** Asks the engine. */
export function requestInfo(client: EngineClient, signal?: AbortSignal): Promise<SandboxInfo> {
  return client.request(
    { case: 'info', value: {} },
    { expect: 'info', accept: ({ value }) => toSandboxInfo(value), signal },
  )
}

/** Asks the engine what is used at the moment. */
export function requestMetrics(client: EngineClient, signal?: AbortSignal): Promise<SandboxMetrics> {
  return client.request(
    { case: 'metrics', value: {} },
    {
      expect: 'metrics',
      accept: ({ value }) => ({
        cpuUs: Number(value.cpuUs),
        memoryBytes: Number(value.memoryBytes),
        tasks: Number(value.tasks),
        threads: Number(value.threads),
        diskBytes: Number(value.diskBytes),
        diskIsLowerBound: value.diskIsLowerBound,
        pageStoreBytes: Number(value.pageStoreBytes),
        checkpoints: Number(value.checkpoints),
        coldCheckpoints: Number(value.coldCheckpoints),
        hotBoundBytes: value.hotBoundBytes === 0n ? null : Number(value.hotBoundBytes),
        hotTotalBytes: Number(value.hotTotalBytes),
        clients: Number(value.clients),
        runningCommands: Number(value.runningCommands),
        uptimeMs: Number(value.uptimeMs),
        engine: {
          rssBytes: Number(value.engineRssBytes),
          cpuUs: Number(value.engineCpuUs),
          openFds: Number(value.engineOpenFds),
        },
      }),
      signal,
    },
  )
}

import { DEFAULT_ENVIRONMENT, toEnvironmentStrings } from '../commands/environment.js'
import { hostCertificates } from './certificates.js'
import { directHosts, type DirectHost } from './direct.js'
import { proxyEnvironment } from './environment.js'
import type { NetworkOption } from './options.js'
import { proxyCommand } from './proxy-command.js'

interface NetworkFields {
  readonly network: string
  readonly networkAllow: string[]
  readonly proxyCommand: string[]
  readonly directHosts: { name: string; ports: number[] }[]
  readonly certificateFiles: string[]
  readonly env: string[]
}

const toWire = ({ name, ports }: DirectHost) => ({ name, ports: [...ports] })

/** The fields of a creation request that the option `network` decides, the environment of commands among them. */
export function toNetworkFields(
  network: NetworkOption,
  hostEnvironment: Readonly<Record<string, string | undefined>>,
): NetworkFields {
  if (network === 'none') {
    const env = toEnvironmentStrings(DEFAULT_ENVIRONMENT)
    return { network, networkAllow: [], proxyCommand: [], directHosts: [], certificateFiles: [], env }
  }
  const certificates = hostCertificates(hostEnvironment)
  const certificateFiles = [...certificates.files]
  if (network === 'host') {
    const env = toEnvironmentStrings({ ...DEFAULT_ENVIRONMENT, ...certificates.environment })
    return { network, networkAllow: [], proxyCommand: [], directHosts: [], certificateFiles, env }
  }
  return {
    network: 'allow',
    networkAllow: [...network.allow],
    proxyCommand: proxyCommand(network.allow),
    directHosts: directHosts(network.allow).map(toWire),
    certificateFiles,
    env: toEnvironmentStrings({ ...DEFAULT_ENVIRONMENT, ...certificates.environment, ...proxyEnvironment() }),
  }
}

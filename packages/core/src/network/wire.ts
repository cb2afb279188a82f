import { DEFAULT_ENVIRONMENT, toEnvironmentStrings } from '../commands/environment.js'
import { hostCertificates } from './certificates.js'
import { proxyEnvironment } from './environment.js'
import type { NetworkOption } from './options.js'
import { proxyCommand } from './proxy-command.js'

/** The fields of a creation request that the option `network` decides, the environment of commands among them. */
export function toNetworkFields(
  network: NetworkOption,
  hostEnvironment: Readonly<Record<string, string | undefined>>,
): { network: string; networkAllow: string[]; proxyCommand: string[]; certificateFiles: string[]; env: string[] } {
  if (network === 'none') {
    const env = toEnvironmentStrings(DEFAULT_ENVIRONMENT)
    return { network, networkAllow: [], proxyCommand: [], certificateFiles: [], env }
  }
  const certificates = hostCertificates(hostEnvironment)
  const certificateFiles = [...certificates.files]
  if (network === 'host') {
    const env = toEnvironmentStrings({ ...DEFAULT_ENVIRONMENT, ...certificates.environment })
    return { network, networkAllow: [], proxyCommand: [], certificateFiles, env }
  }
  return {
    network: 'allow',
    networkAllow: [...network.allow],
    proxyCommand: proxyCommand(network.allow),
    certificateFiles,
    env: toEnvironmentStrings({ ...DEFAULT_ENVIRONMENT, ...certificates.environment, ...proxyEnvironment() }),
  }
}

import { realpathSync, statSync } from 'node:fs'

/** Variables by which programs are told of certificate authorities in a file. */
const CERTIFICATE_VARIABLES = [
  'SSL_CERT_FILE',
  'NODE_EXTRA_CA_CERTS',
  'CURL_CA_BUNDLE',
  'REQUESTS_CA_BUNDLE',
  'GIT_SSL_CAINFO',
  'PIP_CERT',
  'CARGO_HTTP_CAINFO',
  'AWS_CA_BUNDLE',
  'npm_config_cafile',
] as const

/** Where the engine shows the files inside, by their place in the list. */
const CERTIFICATE_DIR = '/.deltabox/certificates'

/** Certificate files of the host, and the variables that name them inside. */
export interface HostCertificates {
  /** Real paths on the host; shown read-only as `/.deltabox/certificates/<index>.pem`. */
  readonly files: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

/** Which certificate authorities the client was told of beyond the system's own. */
export function hostCertificates(env: Readonly<Record<string, string | undefined>>): HostCertificates {
  const files: string[] = []
  const environment: Record<string, string> = {}
  for (const variable of CERTIFICATE_VARIABLES) {
    const file = regularFile(env[variable])
    if (file === undefined) continue
    if (!files.includes(file)) files.push(file)
    environment[variable] = `${CERTIFICATE_DIR}/${files.indexOf(file)}.pem`
  }
  return { files, environment }
}

function regularFile(path: string | undefined): string | undefined {
  if (path === undefined || path === '') return undefined
  try {
    const file = realpathSync(path)
    return statSync(file).isFile() ? file : undefined
  } catch {
    // A variable that names nothing tells programs nothing, outside and inside.
    return undefined
  }
}

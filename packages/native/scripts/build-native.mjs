// Builds engine, addon and native tests with CMake. Usage: node scripts/build-native.mjs [release|sanitize]
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const CONFIGS = {
  release: [],
  sanitize: ['-DDELTABOX_SANITIZE=ON'],
}

const packageDir = dirname(dirname(fileURLToPath(import.meta.url)))
const config = process.argv[2] ?? 'release'
if (!(config in CONFIGS)) {
  console.error(`unknown configuration "${config}"; choose one of: ${Object.keys(CONFIGS).join(', ')}`)
  process.exit(2)
}

if (process.platform !== 'linux' || process.arch !== 'x64') {
  console.error(`the engine runs on linux x64 only; this is ${process.platform} ${process.arch}: nothing was built`)
  process.exit(0)
}

const require = createRequire(import.meta.url)
const headersDir = join(dirname(require.resolve('node-api-headers/package.json')), 'include')
const addonApiDir = dirname(require.resolve('node-addon-api/package.json'))
const buildDir = join('build', config)

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: packageDir, stdio: 'inherit' })
  if (error) {
    console.error(`${command}: ${error.message}`)
    process.exit(1)
  }
  if (status !== 0) process.exit(status ?? 1)
}

run('cmake', [
  ...['-S', '.', '-B', buildDir],
  '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
  `-DNODE_API_HEADERS_DIR=${headersDir}`,
  `-DNODE_ADDON_API_DIR=${addonApiDir}`,
  ...CONFIGS[config],
])
// Two jobs: the protobuf translation units need about 1 GB each while compiling.
run('cmake', ['--build', buildDir, '-j2'])

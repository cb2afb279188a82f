// What has to be installed on a Debian or Ubuntu machine, and how.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { capture, giveUp, run } from './run.mjs'

export const BUILD_PACKAGES = [
  ...['cmake', 'g++', 'make', 'protobuf-compiler', 'libprotobuf-dev', 'doctest-dev', 'libxxhash-dev'],
  ...['python3', 'util-linux', 'git'],
]

/**
 * The programs that `packages/core/test/programs` checkpoints, the browser that looks at one of them, and what other tests
 * call: tracers, a client of HTTP, another file system.
 */
export const TEST_PACKAGES = [
  ...['vim', 'tmux', 'fzf', 'python3-numpy', 'bsh', 'default-jre-headless', 'redis-tools', 'postgresql'],
  ...['chromium', 'gdb', 'strace', 'curl', 'xfsprogs', 'e2fsprogs'],
]

const isInstalled = (name) => capture('dpkg-query', ['-W', '-f=${db:Status-Abbrev}', name])?.startsWith('ii') === true

/** Installs those of `names` that are missing, as root; anyone else is told how. */
export async function installDebianPackages(names) {
  const missing = names.filter((name) => !isInstalled(name))
  if (missing.length === 0) return
  const aptLine = `apt-get install -y --no-install-recommends ${missing.join(' ')}`
  if (process.getuid() !== 0)
    giveUp(`these Debian packages are missing: ${missing.join(', ')}`, `run as root: ${aptLine}`)
  console.log(`installing Debian packages: ${missing.join(' ')}`)
  if (missing.includes('postgresql')) withoutDatabaseServer()
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const install = ['-o', 'Dpkg::Options::=--force-confold', ...aptLine.split(' ').slice(1)]
  if ((await run('apt-get', ['update', '-q'], { env })) !== 0 || (await run('apt-get', install, { env })) !== 0) {
    giveUp('apt-get failed', `run as root: apt-get update && ${aptLine}`)
  }
}

/** The package would make a database and start its server: the tests only need the programs. */
function withoutDatabaseServer() {
  const file = '/etc/postgresql-common/createcluster.conf'
  if (existsSync(file)) return
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, 'create_main_cluster = false\n')
}

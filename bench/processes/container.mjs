// The same session in a container of runc, which calls CRIU: namespaces, mounts and control groups are dumped and restored too.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, delimiter, join, resolve } from 'node:path'
import { checkCriu } from './criu.mjs'
import { measureDumps } from './dumps.mjs'

/** What the container takes from this machine; `/bin` and `/lib` lie in it since Debian 12. */
const PROGRAMS = '/usr'

/** `dir`: in memory; everything that the container needs is made there. */
export async function measureContainer({ runc, criu, dir, ...sizes }) {
  if (runc === undefined) throw new Error('no runc in PATH')
  checkCriu(criu)
  const version = /^runc version (\S+)/m.exec(execFileSync(runc, ['--version'], { encoding: 'utf8' }))?.[1]
  const runtime = makeRuntime({ runc, criu, dir })
  const bundle = makeBundle(runc, dir)
  const id = basename(dir)
  const makeSession = (command, dirs) => containerSession({ runtime, bundle, id, command, dirs })
  return { version, points: await measureDumps({ dir, ...sizes, makeSession }) }
}

/** Calls runc, with its state in `dir`. */
function makeRuntime({ runc, criu, dir }) {
  // PATH is where all its versions find CRIU; not all have an option for it.
  const bin = join(dir, 'bin')
  mkdirSync(bin)
  symlinkSync(resolve(criu), join(bin, 'criu'))
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` }
  const log = join(dir, 'runc.log')
  const options = ['--root', join(dir, 'state'), '--log', log, '--log-format', 'json']
  return (name, ...args) => {
    try {
      // The container keeps what runc gets as standard error, and CRIU refuses pipes whose other end is elsewhere.
      execFileSync(runc, [...options, name, ...args], { stdio: 'ignore', env })
    } catch (cause) {
      throw new Error(`runc ${name}: ${readReason(log) ?? cause.message}`, { cause })
    }
  }
}

/** The last error in runc's log, and those of CRIU if it names CRIU's log. */
function readReason(log) {
  if (!existsSync(log)) return undefined
  const entries = readFileSync(log, 'utf8').split('\n').filter(Boolean)
  const message = entries.map((entry) => JSON.parse(entry)).findLast(({ level }) => level === 'error')?.msg
  const criuLog = /log file: (\S+)/.exec(message)?.[1]
  if (criuLog === undefined || !existsSync(criuLog)) return message
  const errors = readFileSync(criuLog, 'utf8').match(/^.*\bError \(.*$/gm) ?? []
  return [message, ...errors].join('\n')
}

function containerSession({ runtime, bundle, id, command, dirs }) {
  const pidFile = join(bundle, 'pid')
  const detached = ['--detach', '--bundle', bundle, '--pid-file', pidFile]
  const keptIn = (image) => ['--image-path', image, '--work-path', image]
  return {
    pid: () => Number(readFileSync(pidFile, 'utf8')),
    start() {
      configure(bundle, command, dirs)
      runtime('run', ...detached, id)
    },
    dump: (image) => runtime('checkpoint', '--leave-running', ...keptIn(image), id),
    // One that has ended keeps its name until then.
    clear: () => runtime('delete', id),
    restore: (image) => runtime('restore', ...detached, ...keptIn(image), id),
    end: () => runtime('delete', '--force', id),
  }
}

/** The container that `runc spec` describes, with nothing in it yet but links into the programs. */
function makeBundle(runc, dir) {
  const bundle = join(dir, 'bundle')
  const rootfs = join(bundle, 'rootfs')
  mkdirSync(rootfs, { recursive: true })
  execFileSync(runc, ['spec', '--bundle', bundle])
  for (const name of ['bin', 'lib', 'lib64']) symlinkSync(join(PROGRAMS, name), join(rootfs, name))
  return bundle
}

/** Has it run `command`; what that reads and writes has the same paths inside. */
function configure(bundle, command, { guests, shared }) {
  const file = join(bundle, 'config.json')
  const criuConfig = join(bundle, 'criu.conf')
  // There are no connections to hold still, and each way to do that needs a program or a part of the kernel more.
  writeFileSync(criuConfig, 'network-lock skip\n')
  const { process: described, mounts, ...spec } = JSON.parse(readFileSync(file, 'utf8'))
  const bind = (path, ...options) => ({ destination: path, source: path, type: 'bind', options: ['bind', ...options] })
  const configured = {
    ...spec,
    // CRIU makes a directory in it when it restores.
    root: { ...spec.root, readonly: false },
    annotations: { 'org.criu.config': criuConfig },
    process: { ...described, terminal: false, args: command },
    mounts: [...mounts, bind(PROGRAMS, 'ro'), bind(guests, 'ro'), bind(shared)],
  }
  writeFileSync(file, JSON.stringify(configured))
}

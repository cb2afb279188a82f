// Programs are installed inside: as root with the system's own package manager, as an ordinary user below /root.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { afterEach, expect, test } from 'vitest'
import { Sandbox, type CommandHandle } from '../../src/index.js'
import { killEngine } from '../support/dead-engine.js'
import { until, useTestState } from '../support/state.js'

const INSTALL_MS = 120_000
const ROUNDS = 10
const RANGE_FIRST = 2_000_000_000 // of the ids that a sandbox of root's has

const state = useTestState()
const isRoot = process.getuid?.() === 0
const hasDpkg = existsSync('/usr/bin/dpkg-deb')
const secret = `/opt/deltabox-test-${process.pid}`

afterEach(() => {
  rmSync(secret, { force: true })
})

async function stdoutOf(sandbox: Sandbox, command: string): Promise<string> {
  const { stdout, stderr, exitCode } = await sandbox.commands.run(command, { timeoutMs: INSTALL_MS })
  return exitCode === 0 ? stdout : `exit ${exitCode}: ${stdout}${stderr}`
}

/** Where the host's file systems allow it (not on an overlay, say), root writes the system directories. */
async function writesSystem(sandbox: Sandbox): Promise<boolean> {
  if (!isRoot) return false
  const { warnings } = await sandbox.getInfo()
  const refused = warnings.filter((warning) => /^\/(usr|etc|var) can't be written inside/.test(warning))
  for (const warning of refused) console.warn(warning)
  return refused.length === 0
}

/** Makes /tmp/VERSION.deb inside: a program (an interpreter under another name) and scripts that a package can have. */
async function buildPackage(sandbox: Sandbox, version: string): Promise<void> {
  const script = `set -e
root=/tmp/build-${version}
mkdir -p $root/DEBIAN $root/usr/bin $root/usr/share/deltabox-example $root/etc
cp -L /usr/bin/python3 $root/usr/bin/deltabox-example
echo ${version} >> $root/usr/bin/deltabox-example
echo ${version} > $root/usr/share/deltabox-example/version
echo "setting = ${version}" > $root/etc/deltabox-example.conf
echo /etc/deltabox-example.conf > $root/DEBIAN/conffiles
printf 'Package: deltabox-example\\nVersion: ${version}\\nArchitecture: all\\nMaintainer: nobody <nobody@example.org>\\nDescription: a test\\n' > $root/DEBIAN/control
cat > $root/DEBIAN/postinst <<'END'
#!/bin/sh
set -e
id deltabox-example > /dev/null 2>&1 || useradd --system --no-create-home deltabox-example
mkdir -p /opt/deltabox-example /var/log/deltabox-example
chown deltabox-example /opt/deltabox-example
update-alternatives --install /usr/bin/deltabox-alternative deltabox-alternative /usr/bin/deltabox-example 10
echo "127.0.0.9 deltabox-example.example.org" >> /etc/hosts
END
chmod 755 $root/DEBIAN/postinst
dpkg-deb --root-owner-group -Znone -b $root /tmp/${version}.deb > /dev/null
`
  expect(await stdoutOf(sandbox, script)).toBe('')
}

const VERSION = "dpkg-query -W -f '${db:Status-Status} ${Version}' deltabox-example 2>/dev/null || echo none"
const TRACES =
  'ls -d /usr/bin/deltabox-example /usr/bin/deltabox-alternative /opt/deltabox-example /etc/deltabox-example.conf ' +
  '/var/log/deltabox-example /etc/alternatives/deltabox-alternative 2>/dev/null | wc -l; ' +
  'grep -c deltabox-example /etc/passwd /etc/hosts'

const hostFiles = () =>
  ['/var/lib/dpkg/status', '/etc/passwd', '/etc/hosts', '/usr/bin', '/usr/share', '/opt', '/etc'].map((path) => {
    const { mtimeMs, ctimeMs, size } = statSync(path)
    return { path, mtimeMs, ctimeMs, size }
  })

test.runIf(isRoot && hasDpkg)(
  'a package with scripts of its own is installed, upgraded and rolled back; the host never sees it',
  async () => {
    await using sandbox = await Sandbox.create({ workspace: state.workspace })
    if (!(await writesSystem(sandbox))) return
    const host = hostFiles()
    await buildPackage(sandbox, '1.0')
    await buildPackage(sandbox, '2.0')
    const before = await sandbox.checkpoint()
    expect(await stdoutOf(sandbox, 'dpkg -i /tmp/1.0.deb')).toContain('Setting up deltabox-example (1.0)')
    const installed = await sandbox.checkpoint()
    const look = `${VERSION}; ${TRACES}; stat -c %U:%G /usr/bin/deltabox-example /opt/deltabox-example; deltabox-alternative -c 'print(6 * 7)'`
    const seen = 'installed 1.06\n/etc/passwd:1\n/etc/hosts:1\nroot:root\ndeltabox-example:root\n42\n'
    expect(await stdoutOf(sandbox, look)).toBe(seen)
    // What root inside owns belongs to nobody on the host.
    const layers = ['-path', '*/upper/bin/*', '-name', 'deltabox-example', '-printf', '%U:%G\n']
    expect(execFileSync('find', [state.stateDir, ...layers], { encoding: 'utf8' })).toBe(
      `${RANGE_FIRST}:${RANGE_FIRST}\n`,
    )

    expect(await stdoutOf(sandbox, 'apt-get install -y /tmp/2.0.deb 2>&1')).toContain('deltabox-example (2.0)')
    expect(await stdoutOf(sandbox, VERSION)).toBe('installed 2.0')
    expect(await stdoutOf(sandbox, 'apt-get purge -y deltabox-example 2>&1')).toContain('Purging')
    await sandbox.rollback(installed)
    expect(await stdoutOf(sandbox, look)).toBe(seen)
    await sandbox.rollback(before)
    expect(await stdoutOf(sandbox, `${VERSION}; ${TRACES}; dpkg --audit`)).toBe(
      'none\n0\n/etc/passwd:0\n/etc/hosts:0\n',
    )
    await sandbox.rollback(installed)
    expect(await stdoutOf(sandbox, look)).toBe(seen)
    expect(hostFiles()).toEqual(host)

    await killEngine(sandbox)
    await using again = await Sandbox.connect(sandbox.id)
    expect(await stdoutOf(again, look)).toBe(seen)
  },
  3 * INSTALL_MS,
)

/** A session of an interpreter that prints what it is asked for. */
interface Session {
  command: CommandHandle
  ask(expression: string): Promise<string>
  send(line: string): Promise<void>
}

async function startSession(
  sandbox: Sandbox,
  command: string[],
  print: (expression: string) => string,
): Promise<Session> {
  const handle = await sandbox.commands.run(command, { background: true })
  const send = (line: string) => handle.sendStdin(`${line}\n`)
  return {
    command: handle,
    send,
    async ask(expression) {
      const before = handle.stdout.length
      await send(print(expression))
      await until(`an answer to ${expression}`, () => /=.*\n/.test(handle.stdout.slice(before)), 30_000)
      return /=(.*)\n/.exec(handle.stdout.slice(before))?.[1] ?? ''
    },
  }
}

const pythonPrint = (expression: string) => `print("=" + str(${expression}))`
const nodePrint = (expression: string) => `console.log("=" + (${expression}))`

test.runIf(isRoot && hasDpkg)(
  'live programs of /usr survive installs, seals of /usr and ten rollbacks, one whose own file was replaced too',
  async () => {
    await using sandbox = await Sandbox.create({ workspace: state.workspace })
    if (!(await writesSystem(sandbox))) return
    await buildPackage(sandbox, '1.0')
    await buildPackage(sandbox, '2.0')
    expect(await stdoutOf(sandbox, 'dpkg -i /tmp/1.0.deb')).toContain('Setting up')
    const python = await startSession(sandbox, ['python3', '-i', '-q', '-u'], pythonPrint)
    const own = await startSession(sandbox, ['deltabox-example', '-i', '-q', '-u'], pythonPrint)
    const node = await startSession(
      sandbox,
      ['node', '-e', 'process.stdin.on("data", (line) => eval(String(line)))'],
      nodePrint,
    )
    for (const session of [python, own]) {
      await session.send('import hashlib; values = {n: n * n for n in range(20_000)}')
    }
    const pythonDigest = 'hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()'
    await node.send('values = Array.from({ length: 20_000 }, (_, n) => n * n)')
    const nodeDigest = 'require("crypto").createHash("sha256").update(JSON.stringify(values)).digest("hex")'
    const digests = async () => [
      await python.ask(pythonDigest),
      await own.ask(pythonDigest),
      await node.ask(nodeDigest),
    ]
    const expected = await digests()
    const start = await sandbox.checkpoint()
    expect(start.warnings.filter(({ kind }) => !['pipe', 'eventfd', 'eventpoll', 'io_uring'].includes(kind))).toEqual(
      [],
    )
    for (let round = 0; round < ROUNDS; round += 1) {
      expect(await stdoutOf(sandbox, `dpkg -i /tmp/2.0.deb; ${VERSION}`)).toContain('installed 2.0')
      await sandbox.checkpoint()
      for (const session of [python, own]) await session.send('import sqlite3, decimal; values = "gone"')
      await node.send('values = "gone"; require("zlib").gzipSync("x")')
      expect(await own.ask('values')).toBe('gone')
      await stdoutOf(sandbox, 'rm -r /usr/share/deltabox-example; echo changed >> /etc/deltabox-example.conf')
      const { notRestored } = await sandbox.rollback(start)
      expect(notRestored.filter(({ kind }) => kind === 'mapping')).toEqual([])
      expect(await digests()).toEqual(expected)
      expect(await stdoutOf(sandbox, `${VERSION}; cat /etc/deltabox-example.conf`)).toBe('installed 1.0setting = 1.0\n')
    }
    // New ones run beside them.
    expect(await stdoutOf(sandbox, "deltabox-example -c 'print(7)'; python3 -c 'print(8)'")).toBe('7\n8\n')
    for (const { command } of [python, own, node]) expect(command.isRunning).toBe(true)
  },
  6 * INSTALL_MS,
)

test.runIf(isRoot)('what the host keeps from others cannot be read over the views of its directories', async () => {
  writeFileSync(secret, 'secret\n', { mode: 0o600 })
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  for (const command of [`cat ${secret}`, `cp ${secret} /tmp/x`, `chmod 644 ${secret} && cat ${secret}`]) {
    expect(await stdoutOf(sandbox, command)).toMatch(/^exit \d+: .*(Permission denied|Read-only)/s)
  }
  expect(await stdoutOf(sandbox, `ln ${secret} /opt/other && cat /opt/other`)).toMatch(/^exit/)
  const absent = ['/etc/shadow', '/etc/gshadow', '/etc/sudoers', '/etc/ssh', '/etc/ssl/private', '/etc/apt/auth.conf']
  const missing = absent.map((path) => `test -e ${path} && echo ${path}`).join('; ')
  expect(await stdoutOf(sandbox, `${missing}; true`)).toBe('')
  if (!(await writesSystem(sandbox))) return
  // It can be replaced, for the sandbox alone.
  expect(await stdoutOf(sandbox, `rm -f ${secret} && echo mine > ${secret} && cat ${secret}`)).toBe('mine\n')
  expect(readFileSync(secret, 'utf8')).toBe('secret\n')
  expect(await stdoutOf(sandbox, 'ls /etc/apt/auth.conf.d; getent passwd root')).toMatch(/^exit 2|root:/)
})

test.runIf(!isRoot)('for an ordinary user the system directories are read-only', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  for (const path of ['/usr/x', '/etc/x', '/opt/x']) {
    expect(await stdoutOf(sandbox, `touch ${path}`)).toMatch(/^exit 1: .*Read-only/s)
  }
  expect((await sandbox.getInfo()).warnings.filter((warning) => warning.includes('written inside'))).toEqual([])
})

/** A Python wheel by hand, and an npm package, both with a program. */
const LIBRARIES = `set -e
mkdir -p /tmp/node-example
cd /tmp/node-example
echo '{ "name": "node-example", "version": "1.0.0", "bin": { "node-example": "run.js" } }' > package.json
printf '#!/usr/bin/env node\\nconsole.log("from npm")\\n' > run.js
chmod 755 run.js
cd /tmp
python3 - <<'END'
import zipfile
info = "wheel_example-1.0.dist-info"
with zipfile.ZipFile("/tmp/wheel_example-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("wheel_example.py", "def main(): print('from pip')\\n")
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: wheel-example\\nVersion: 1.0\\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: hand\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\nwheel-example = wheel_example:main\\n")
    wheel.writestr(f"{info}/RECORD", "")
END
`

test.runIf(existsSync('/usr/bin/npm'))('npm install -g and pip install work, and are rolled back', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  expect(await stdoutOf(sandbox, LIBRARIES)).toBe('')
  const before = await sandbox.checkpoint()
  expect(await stdoutOf(sandbox, 'npm install -g --offline /tmp/node-example && node-example')).toMatch(/from npm\n$/)
  if (existsSync('/usr/bin/pip3')) {
    const install = 'pip3 install --no-index --no-deps /tmp/wheel_example-1.0-py3-none-any.whl && wheel-example'
    expect(await stdoutOf(sandbox, install)).toMatch(/from pip\n$/)
  }
  await sandbox.rollback(before)
  expect(await stdoutOf(sandbox, 'command -v node-example wheel-example; true')).toBe('')
})

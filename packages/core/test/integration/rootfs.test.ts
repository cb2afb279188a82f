// Images as root, and further volumes.
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { Sandbox, type CreateSandboxOptions } from '../../src/index.js'
import { makeImage } from '../support/image.js'
import { useTestState } from '../support/state.js'

const state = useTestState()
let image = ''
let data = ''

beforeEach(() => {
  image = join(state.workspace, '..', 'image')
  data = join(state.workspace, '..', 'data')
  mkdirSync(join(data, 'sub'), { recursive: true })
  writeFileSync(join(data, 'sub', 'file'), 'of the host\n')
})

async function stdoutOf(sandbox: Sandbox, command: string): Promise<string> {
  const { stdout, stderr, exitCode } = await sandbox.commands.run(command)
  return exitCode === 0 ? stdout : `exit ${exitCode}: ${stdout}${stderr}`
}

test('an image is the root: all of it visible, writable, rolled back, and never changed', async () => {
  makeImage(image)
  await using sandbox = await Sandbox.create({ workspace: state.workspace, rootfs: image })
  expect((await stdoutOf(sandbox, 'ls /')).trim().split('\n')).toEqual(
    [
      ...['bin', 'dev', 'etc', 'home', 'lib', 'lib64', 'proc', 'root', 'run', 'srv', 'sys', 'tmp', 'top-file', 'usr'],
      ...['var', 'workspace'],
    ].sort(),
  )
  expect(await stdoutOf(sandbox, 'cat /etc/image-release /srv/data /top-file')).toBe(
    'NAME=tiny\nof the image\nat the top\n',
  )
  // The name of the machine on which it was made is replaced.
  expect(await stdoutOf(sandbox, 'cat /etc/hostname /etc/hosts')).toBe(
    'deltabox\n127.0.0.1 localhost deltabox\n::1 localhost\n',
  )
  expect(await stdoutOf(sandbox, 'stat -c %u:%g /etc/image-release /usr/bin/bash')).toBe('0:0\n0:0\n')
  // Nothing of the host's own programs.
  expect(existsSync('/usr/bin/env')).toBe(true)
  expect(await stdoutOf(sandbox, 'ls /usr/bin')).not.toContain('python3')

  const before = await sandbox.checkpoint()
  const change =
    'echo changed > /etc/image-release && rm /srv/data && mkdir /usr/lib/new && mv /usr/bin/id /usr/bin/id2'
  expect(await stdoutOf(sandbox, `${change} && echo x > /usr/bin/tool && chmod 755 /usr/bin/tool`)).toBe('')
  const after = await sandbox.checkpoint()
  await sandbox.rollback(before)
  expect(await stdoutOf(sandbox, 'cat /etc/image-release /srv/data; ls /usr/lib/new 2>/dev/null; id -u')).toBe(
    'NAME=tiny\nof the image\n0\n',
  )
  await sandbox.rollback(after)
  expect(await stdoutOf(sandbox, 'cat /etc/image-release; id2 -u')).toBe('changed\n0\n')

  expect(readFileSync(join(image, 'etc/image-release'), 'utf8')).toBe('NAME=tiny\n')
  expect(readFileSync(join(image, 'etc/hostname'), 'utf8')).toBe('the-builder\n')
  expect(readdirSync(join(image, 'srv'))).toEqual(['data'])
})

test('an image with the network of the host has its names', async () => {
  makeImage(image)
  await using sandbox = await Sandbox.create({ workspace: state.workspace, rootfs: image, network: 'host' })
  expect(await stdoutOf(sandbox, 'cat /etc/resolv.conf')).toBe(readFileSync('/etc/resolv.conf', 'utf8'))
})

test('links of an image lead nowhere outside', async () => {
  makeImage(image)
  symlinkSync(data, join(image, 'escape'))
  symlinkSync('../../../../../../..', join(image, 'srv', 'up'))
  await using sandbox = await Sandbox.create({ workspace: state.workspace, rootfs: image })
  expect(await stdoutOf(sandbox, 'ls /escape/sub')).toMatch(/^exit/)
  expect(await stdoutOf(sandbox, 'ls /srv/up')).toContain('top-file')
})

test('volumes: empty, copy-on-write and read-only', async () => {
  const file = join(state.workspace, '..', 'one-file')
  writeFileSync(file, 'one\n')
  await using sandbox = await Sandbox.create({
    workspace: state.workspace,
    volumes: [
      { path: '/empty' },
      { path: '/data', from: data },
      { path: '/mnt/fixed', from: data, mode: 'ro' },
      { path: '/mnt/one', from: file, mode: 'ro' },
      { path: '/home', from: data },
    ],
  })
  expect(await stdoutOf(sandbox, 'cat /data/sub/file /mnt/fixed/sub/file /mnt/one /home/sub/file; ls /empty')).toBe(
    'of the host\nof the host\none\nof the host\n',
  )
  const before = await sandbox.checkpoint()
  expect(await stdoutOf(sandbox, 'echo changed > /data/sub/file; echo new > /empty/new')).toBe('')
  expect(await stdoutOf(sandbox, 'echo x > /mnt/fixed/sub/file')).toMatch(/Read-only/)
  expect(await stdoutOf(sandbox, 'echo x > /mnt/one')).toMatch(/Read-only/)
  await sandbox.rollback(before)
  expect(await stdoutOf(sandbox, 'cat /data/sub/file; ls /empty')).toBe('of the host\n')
  expect(readFileSync(join(data, 'sub', 'file'), 'utf8')).toBe('of the host\n')
  // A copy-on-write volume is a copy for the sandbox alone; a read-only one is the host's own.
  writeFileSync(join(data, 'sub', 'later'), 'later\n')
  expect(await stdoutOf(sandbox, 'cat /mnt/fixed/sub/later')).toBe('later\n')
})

test('many volumes at once', async () => {
  const volumes = Array.from({ length: 16 }, (_, index) => ({ path: `/v/${index}`, from: data }))
  await using sandbox = await Sandbox.create({ workspace: state.workspace, volumes })
  const before = await sandbox.checkpoint()
  await sandbox.commands.run('for v in /v/*; do echo $v > $v/sub/file; done')
  await sandbox.rollback(before)
  expect(await stdoutOf(sandbox, 'cat /v/*/sub/file')).toBe('of the host\n'.repeat(16))
})

test('what is refused, with nothing left behind', async () => {
  const refused: [CreateSandboxOptions, string][] = [
    [{ volumes: [{ path: '/a' }, { path: '/a/b' }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: '/a' }, { path: '/a' }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: '/tmp/x' }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: '/workspace/x' }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: '/usr/x' }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: '/.deltabox' }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: 'relative' }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: '/x', mode: 'ro' }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: '/x', from: join(data, 'missing') }] }, 'NOT_FOUND'],
    [{ volumes: [{ path: '/x', from: join(data, 'sub', 'file') }] }, 'NOT_A_DIRECTORY'],
    [{ volumes: [{ path: '/x', from: join(state.stateDir, '..') }] }, 'INVALID_ARGUMENT'],
    [{ volumes: [{ path: '/x', from: '/' }] }, 'INVALID_ARGUMENT'],
    [{ rootfs: join(data, 'missing') }, 'NOT_FOUND'],
    [{ rootfs: join(data, 'sub', 'file') }, 'NOT_A_DIRECTORY'],
    [{ rootfs: '/' }, 'INVALID_ARGUMENT'],
    [{ rootfs: image, workspaceMount: '/srv/app' }, 'INVALID_ARGUMENT'],
  ]
  makeImage(image)
  for (const [options, code] of refused) {
    const creating = Sandbox.create({ workspace: state.workspace, ...options })
    await expect(creating, JSON.stringify(options)).rejects.toMatchObject({ code })
  }
  expect(await Sandbox.list()).toEqual([])
})

test('files that others may not read stay closed to others inside', async () => {
  if (process.getuid?.() !== 0) return
  writeFileSync(join(data, 'private'), 'secret\n')
  chmodSync(join(data, 'private'), 0o600)
  await using sandbox = await Sandbox.create({
    workspace: state.workspace,
    volumes: [{ path: '/data', from: data }],
  })
  const read = 'import os; os.setuid(1000); open("/data/private")'
  const { exitCode, stderr } = await sandbox.commands.run(['python3', '-c', read])
  expect(exitCode).not.toBe(0)
  expect(stderr).toContain('PermissionError')
})

import {
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  mkdirSync,
  openSync,
  closeSync,
  readdirSync,
  copyFileSync,
  chmodSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { spawnSync } from 'node:child_process'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadNative } from '@deltabox/native'

const here = dirname(fileURLToPath(import.meta.url))
const { addon } = loadNative()
const peerSource = join(here, 'fake-engine.py')

let dir
let peer
const open = []

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dbx-addon-'))
  peer = join(dir, 'fake-engine')
  copyFileSync(peerSource, peer)
  chmodSync(peer, 0o755)
})

afterEach(() => {
  for (const channel of open.splice(0)) channel.close()
  rmSync(dir, { recursive: true, force: true })
})

/** A channel whose frames can be awaited one by one. */
function channelOn(fd) {
  const frames = []
  const waiting = []
  let onClosed
  const closed = new Promise((resolve) => (onClosed = resolve))
  const channel = new addon.Channel(
    fd,
    (payload, fds) => {
      const taker = waiting.shift()
      if (taker) taker({ payload, fds })
      else frames.push({ payload, fds })
    },
    (error) => onClosed(error ?? null),
  )
  open.push(channel)
  const next = () =>
    frames.length > 0 ? Promise.resolve(frames.shift()) : new Promise((resolve) => waiting.push(resolve))
  return { channel, next, closed }
}

const spawnPeer = (args = []) => channelOn(addon.spawnEngine(peer, args, join(dir, 'engine.log')))
const descriptorCount = () => readdirSync('/proc/self/fd').length

describe('spawnEngine', () => {
  test('gives the engine its socket as descriptor 3, /dev/null, the log, and nothing else', async () => {
    const { channel, next } = spawnPeer()
    channel.send(Buffer.from('report'))
    const { payload } = await next()
    // Descriptor 4 is the directory listing itself; Python adds LC_CTYPE on its own.
    expect(payload.toString()).toBe("([0, 1, 2, 3, 4], '/', ['LC_CTYPE', 'PATH'], False)")
    expect(readFileSync(join(dir, 'engine.log'), 'utf8')).toBe('fake engine runs\n')
    expect(statSync(join(dir, 'engine.log')).mode & 0o777).toBe(0o600)
  })

  test('a missing engine is ENOENT and leaves no descriptor', () => {
    const before = descriptorCount()
    expect(() => addon.spawnEngine(join(dir, 'nowhere'), [], join(dir, 'engine.log'))).toThrow(
      expect.objectContaining({ code: 'ENOENT', syscall: 'posix_spawn' }),
    )
    expect(descriptorCount()).toBe(before)
  })

  test('an engine that fails before it detached is ECHILD', () => {
    expect(() => addon.spawnEngine(peer, ['--fail'], join(dir, 'engine.log'))).toThrow(
      expect.objectContaining({ code: 'ECHILD' }),
    )
  })
})

describe('connectEngine', () => {
  test('reaches a socket whose path is longer than a socket address', async () => {
    const long = join(dir, 'x'.repeat(120))
    mkdirSync(long)
    const control = addon.spawnEngine(peer, ['--listen', long], join(dir, 'engine.log'))
    const { channel, next } = channelOn(addon.connectEngine(long))
    channel.send(Buffer.from('hello'))
    expect((await next()).payload.toString()).toBe('hello')
    closeSync(control)
  })

  test('names what is missing: directory, socket, listener', async () => {
    expect(() => addon.connectEngine(join(dir, 'none'))).toThrow(
      expect.objectContaining({ code: 'ENOENT', syscall: 'open' }),
    )
    expect(() => addon.connectEngine(dir)).toThrow(expect.objectContaining({ code: 'ENOENT', syscall: 'connect' }))
    spawnSync('python3', ['-c', 'import socket,sys; socket.socket(socket.AF_UNIX).bind("engine.sock")'], { cwd: dir })
    expect(() => addon.connectEngine(dir)).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }))
  })
})

describe('Channel', () => {
  test('carries empty, small and largest frames in order', async () => {
    const { channel, next } = spawnPeer()
    const sizes = [0, 1, 4096, 16 << 20, 3, 16 << 20, 7]
    for (const size of sizes) channel.send(Buffer.alloc(size, size & 0xff))
    for (const size of sizes) {
      const { payload, fds } = await next()
      expect(payload.length).toBe(size)
      expect(payload.equals(Buffer.alloc(size, size & 0xff))).toBe(true)
      expect(fds).toEqual([])
    }
  })

  test('carries descriptors, which the sender may close at once', async () => {
    const { channel, next } = spawnPeer()
    const before = descriptorCount()
    const memfds = Array.from({ length: 16 }, (_, index) => addon.createMemfd(Buffer.from(`contents ${index}`)))
    channel.send(Buffer.from('with descriptors'), memfds)
    memfds.forEach((fd) => closeSync(fd))
    const { fds } = await next()
    expect(fds.map((fd) => readFileSync(fd, 'utf8'))).toEqual(memfds.map((_, index) => `contents ${index}`))
    fds.forEach((fd) => closeSync(fd))
    expect(descriptorCount()).toBe(before)
  })

  test('refuses what is out of bounds without breaking the stream', async () => {
    const { channel, next } = spawnPeer()
    const fd = openSync('/dev/null', 'r')
    expect(() => channel.send(Buffer.alloc((16 << 20) + 1))).toThrow(expect.objectContaining({ code: 'EMSGSIZE' }))
    expect(() => channel.send(Buffer.from('x'), Array(17).fill(fd))).toThrow(
      expect.objectContaining({ code: 'EMSGSIZE' }),
    )
    expect(() => channel.send(Buffer.from('x'), [99999])).toThrow(expect.objectContaining({ code: 'EBADF' }))
    expect(() => channel.send('text')).toThrow(TypeError)
    closeSync(fd)
    channel.send(Buffer.from('still fine'))
    expect((await next()).payload.toString()).toBe('still fine')
  })

  test('reports the end of the stream once, and an orderly end without an error', async () => {
    const { channel, closed } = spawnPeer()
    channel.send(Buffer.from('exit'))
    expect(await closed).toBe(null)
    expect(() => channel.send(Buffer.from('late'))).toThrow(expect.objectContaining({ code: 'EPIPE' }))
    channel.close()
  })

  test('bytes that are no frame end the connection with an error', async () => {
    const { channel, closed } = spawnPeer()
    channel.send(Buffer.from('garbage'))
    expect(await closed).toContain('frame magic')
  })

  test('close is idempotent, closes the descriptor and calls nothing afterwards', async () => {
    const before = descriptorCount()
    const { channel, closed } = spawnPeer()
    for (let i = 0; i < 100; i++) channel.send(Buffer.alloc(100_000))
    channel.close()
    channel.close()
    expect(descriptorCount()).toBe(before)
    const outcome = await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 100, 'silent'))])
    expect(outcome).toBe('silent')
  })

  test('an unreferenced channel lets the process end; a worker that ends with one open does not crash', async () => {
    const script = `
      import { loadNative } from '@deltabox/native'
      const { addon } = loadNative()
      const channel = new addon.Channel(addon.spawnEngine(${JSON.stringify(peer)}, [], ${JSON.stringify(join(dir, 'log'))}), () => {}, () => {})
      channel.unref()`
    const ended = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd: here, timeout: 10_000 })
    expect(ended.stderr.toString()).toBe('')
    expect(ended.status).toBe(0)
    const worker = new Worker(
      `const { loadNative } = require(${JSON.stringify(join(here, '../../index.js'))})
       const { addon } = loadNative()
       globalThis.channel = new addon.Channel(addon.spawnEngine(${JSON.stringify(peer)}, [], ${JSON.stringify(join(dir, 'log'))}), () => {}, () => {})
       require('node:worker_threads').parentPort.postMessage('open')`,
      { eval: true },
    )
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    expect(await worker.terminate()).toBe(1)
  })
})

describe('loadNative', () => {
  test('a missing build is UNSUPPORTED_PLATFORM with a next step', () => {
    const script = `import { loadNative } from '@deltabox/native'
      try { loadNative() } catch (error) { console.log(error.code, error.nextStep) }`
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      cwd: here,
      env: { ...process.env, DELTABOX_NATIVE_DIR: dir },
    })
    expect(stdout.toString()).toMatch(/^UNSUPPORTED_PLATFORM run `npm run build`/)
  })
})

import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { Sandbox, type EntryInfo } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })
const names = (entries: readonly EntryInfo[]) => entries.map(({ name }) => name)

test('list, getInfo, exists, makeDir, rename, remove', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  expect(names(await files.list('.'))).toEqual(['README.md', 'src'])
  await files.writeFiles([
    { path: 'src/b.txt', data: 'b' },
    { path: '/workspace/deep/er/c.bin', data: Buffer.of(0, 255) },
  ])
  await commands.run('ln -s ../src/b.txt deep/link; ln -s nowhere dangling; mkfifo pipe; chmod 600 src/b.txt')
  expect((await files.list('/workspace', { depth: 3 })).map(({ path }) => path)).toEqual([
    ...['/workspace/README.md', '/workspace/dangling', '/workspace/deep', '/workspace/deep/er'],
    ...['/workspace/deep/er/c.bin', '/workspace/deep/link', '/workspace/pipe', '/workspace/src'],
    ...['/workspace/src/b.txt', '/workspace/src/main.txt'],
  ])
  expect(await files.getInfo('src/b.txt')).toMatchObject({
    ...{ name: 'b.txt', path: '/workspace/src/b.txt', type: 'file', sizeBytes: 1, mode: 0o600, links: 1 },
  })
  expect(Math.abs((await files.getInfo('src/b.txt')).modifiedAtMs - Date.now())).toBeLessThan(60_000)
  expect(await files.getInfo('deep/link')).toMatchObject({ type: 'symlink', symlinkTarget: '../src/b.txt' })
  expect(await files.getInfo('/')).toMatchObject({ name: '', type: 'dir' })
  expect(await files.getInfo('/dev/null')).toMatchObject({ type: 'device' })
  expect((await files.getInfo('pipe')).type).toBe('fifo')
  expect(
    await Promise.all(['deep/link', 'dangling', 'missing', 'README.md/x'].map((path) => files.exists(path))),
  ).toEqual([true, true, false, false])
  expect(await files.read('deep/link')).toBe('b')

  expect([await files.makeDir('a/b/c/'), await files.makeDir('a/b/c'), await files.makeDir('/')]).toEqual([
    ...[true, false, false],
  ])
  await files.makeDir('private', { mode: 0o700 })
  expect((await files.getInfo('private')).mode).toBe(0o700)
  await expect(files.makeDir('README.md')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
  await expect(files.makeDir('README.md/x')).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' })

  await files.rename('src/b.txt', 'a/b/moved')
  await files.write('a/other', 'other')
  await files.rename('a/other', 'a/b/moved')
  expect(await files.read('a/b/moved')).toBe('other')
  await files.rename('dangling', 'still-dangling')
  expect((await files.getInfo('still-dangling')).type).toBe('symlink')
  await expect(files.rename('missing', 'x')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(files.rename('private', 'a')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
  await expect(files.rename('a', 'a/b/inside')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.rename('README.md', '/tmp/x')).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  await expect(files.rename('/tmp', '/workspace/x')).rejects.toMatchObject({ code: expect.any(String) as string })

  await files.remove('still-dangling')
  await files.remove('a')
  expect(await files.exists('a')).toBe(false)
  await expect(files.remove('a')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  for (const volume of ['/workspace', '/tmp', '/', '..', '/workspace/.']) {
    await expect(files.remove(volume), volume).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }
  // Where root started the sandbox it may write its own view of the system directories.
  if (process.getuid?.() === 0) await files.remove('/usr/bin/env')
  else await expect(files.remove('/usr/bin/env')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
  expect(names(await files.list('.'))).toEqual(['README.md', 'deep', 'pipe', 'private', 'src'])
})

test('links never lead out, and never where they must not be followed', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  await commands.run(
    'ln -s / root; ln -s ../../../../../../etc/passwd up; ln -s /proc/self/root magic; ' +
      'mkdir victim; touch victim/kept; mkdir tree; ln -s ../victim tree/link',
  )
  // "/" is the sandbox's: what it leads to is the sandbox's own passwd.
  const inside = (await commands.run('cat /etc/passwd')).stdout
  expect(await files.read('up')).toBe(inside)
  expect(await files.read('root/etc/passwd')).toBe(inside)
  expect(names(await files.list('root/workspace/victim'))).toEqual(['kept'])
  await expect(files.read('magic/etc/passwd')).rejects.toMatchObject({ code: expect.any(String) as string })
  await expect(files.read('/proc/1/root/etc/passwd')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await files.remove('tree')
  expect(names(await files.list('victim'))).toEqual(['kept'])
  await files.write('up', 'a file in the place of the link')
  expect((await files.getInfo('up')).type).toBe('file')
  expect((await commands.run('cat /etc/passwd')).stdout).toBe(inside)
})

test('names of any bytes are listed as they are, and can be used as they are', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  await files.makeDir('odd')
  const odd = [
    Buffer.of(0xff, 0xfe),
    Buffer.from('new\nline'),
    Buffer.from('\x1b[31m'),
    Buffer.from(' '),
    Buffer.from('é€😀'),
  ]
  for (const name of odd) await files.write(Buffer.concat([Buffer.from('odd/'), name]), name)
  await files.write(`odd/${'x'.repeat(255)}`, 'long')
  const listed = await files.list('odd')
  expect(listed).toHaveLength(odd.length + 1)
  for (const entry of listed) {
    const path = entry.rawPath ?? entry.path
    const contents = await files.read(path, { format: 'bytes' })
    if (entry.name.length < 255) {
      expect(Buffer.from(contents).equals(Buffer.from(path as string).subarray('/workspace/odd/'.length))).toBe(true)
    }
    expect((await files.getInfo(path)).name).toBe(entry.name)
  }
  const raw = listed.find(({ rawPath }) => rawPath !== undefined)
  expect(raw).toMatchObject({ name: '\uFFFD\uFFFD', path: '/workspace/odd/\uFFFD\uFFFD' })
  await files.rename(raw?.rawPath ?? '', Buffer.from([...Buffer.from('odd/'), 0xc0]))
  expect((await commands.run('ls odd | head -c 2 | od -An -tx1; ls odd | od -An -c | grep -c 300')).stdout).toMatch(
    /1\n$/,
  )
  await files.remove('odd')
  expect(await files.exists('odd')).toBe(false)
})

test('paths that are none are refused with their code', async () => {
  await using sandbox = await create()
  const { files } = sandbox
  const wrong = ['', 'a\0b', 'x'.repeat(5000), '\ud800', 7 as unknown as string]
  for (const path of wrong) {
    for (const call of [
      files.read(path),
      files.write(path, 'x'),
      files.list(path),
      files.remove(path),
      files.exists(path),
    ]) {
      await expect(call, JSON.stringify(path).slice(0, 40)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
  }
  await expect(files.write('y'.repeat(256), 'x')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.write('src', 'x')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.write('/', 'x')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.write('x', 5 as unknown as string)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.write('/x', 'x')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
  await expect(files.list('README.md')).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' })
  await expect(files.list('missing')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(files.getInfo('missing')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(files.read('/dev/zero')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.list('.', { depth: 0 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(files.read('README.md', { bogus: 1 } as object)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('big files go over in pieces, between which checkpoints come; readers see the old file or the new one', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  const piece = Buffer.alloc(8 << 20)
  for (let index = 0; index < piece.length; index += 4) piece.writeUInt32LE(index, index)
  const hash = createHash('sha256')
  await files.write('big', 'old', { mode: 0o640 })
  let before: string | undefined
  async function* source() {
    for (let round = 0; round < 9; round += 1) {
      if (round === 5) {
        before = (await sandbox.checkpoint()).id
        expect(await files.read('big')).toBe('old')
      }
      hash.update(piece)
      yield piece
    }
  }
  await files.write('big', source())
  const wanted = hash.digest('hex')
  expect((await commands.run('sha256sum < big; stat -c "%s %a" big; ls -A')).stdout).toBe(
    `${wanted}  -\n${9 * piece.length} 640\nREADME.md\nbig\nsrc\n`,
  )
  const streamed = createHash('sha256')
  let bytes = 0
  for await (const chunk of await files.read('big', { format: 'stream' })) {
    streamed.update(chunk)
    bytes += chunk.length
  }
  expect([streamed.digest('hex'), bytes]).toEqual([wanted, 9 * piece.length])
  expect(
    createHash('sha256')
      .update(await files.read('big', { format: 'bytes' }))
      .digest('hex'),
  ).toBe(wanted)

  // A rollback between two pieces ends the write, and leaves nothing of it.
  async function* rolledBack() {
    yield* [piece, piece, piece, piece, piece, piece]
    await sandbox.rollback(before ?? '')
    yield piece
  }
  await expect(files.write('other', rolledBack())).rejects.toMatchObject({ code: 'STALE_GENERATION' })
  const temporaries = (await files.list('.')).filter(({ name }) => name.startsWith('.deltabox-write-'))
  expect(temporaries.map(({ name }) => name)).toEqual([])
  async function* failing(): AsyncGenerator<Buffer> {
    for (let round = 0; round < 6; round += 1) yield piece
    await Promise.resolve()
    throw new Error('broken source')
  }
  await expect(files.write('other', failing())).rejects.toThrow('broken source')
  const other = await Sandbox.connect(sandbox.id)
  async function* left() {
    for (let round = 0; round < 6; round += 1) yield piece
    other.disconnect()
    yield* [piece, piece, piece]
    await Promise.resolve()
  }
  await expect(other.files.write('other', left())).rejects.toMatchObject({ code: 'ENGINE_LOST' })
  // The engine may hear of this client's question before it hears that the other one is gone.
  await until('nothing of it is left', async () => names(await files.list('.')).join() === 'README.md,big,src')
})

test('directories of many entries, and deep ones', async () => {
  await using sandbox = await create()
  const { files, commands } = sandbox
  const made = await commands.run([
    'python3',
    '-c',
    'import os\nos.mkdir("many")\nfor i in range(20000): open(f"many/{i:05}-" + "n" * 200, "w").close()\n' +
      'os.mkdir("deep"); os.chdir("deep")\nfor i in range(2000):\n  os.mkdir("d"); os.chdir("d")\n',
  ])
  expect(made).toMatchObject({ exitCode: 0, stderr: '' })
  const listed = await files.list('many')
  expect(listed).toHaveLength(20_000)
  expect(new Set(names(listed)).size).toBe(20_000)
  expect(names(listed)).toEqual([...names(listed)].sort())
  // Deeper than what may be walked while others wait.
  expect((await sandbox.getMetrics()).diskIsLowerBound).toBe(true)
  await Promise.all([files.remove('many'), files.remove('deep'), commands.run('true')])
  expect(names(await files.list('.'))).toEqual(['README.md', 'src'])
})

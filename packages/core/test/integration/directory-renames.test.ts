// rename(2) of directories that lie in a lower layer: as the kernel does it elsewhere, for every program, as often as
// wanted.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { makeProject, names, PRELUDE, python, shell } from '../support/renames.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const isRoot = process.getuid?.() === 0
const INSIDE_UID = 1000

const programs: Record<string, (from: string, to: string) => string> = {
  mv: (from, to) => `mv -T ${from} ${to}`,
  'git mv': (from, to) => `git mv ${from} ${to}`,
  'os.rename of Python': (from, to) => `python3 -c 'import os; os.rename("${from}", "${to}")'`,
  'renameSync of Node.js': (from, to) => `node -e 'fs.renameSync("${from}", "${to}")'`,
}

test.each(Object.entries(programs))(
  '%s, before and after a checkpoint; a rollback brings the old name back',
  async (_, rename) => {
    makeProject(state.workspace, 'one', 'two')
    await using sandbox = await Sandbox.create({ workspace: state.workspace })
    await shell(sandbox, 'git init -q; git add -A; git -c user.name=n -c user.email=e commit -qm all')
    const start = await sandbox.checkpoint()
    const before = await names(sandbox)
    const renamed = (from: string, to: string) => (list: string[]) =>
      list.map((name) => name.replace(new RegExp(`^\\./${from}(?=/|$)`), `./${to}`)).sort()
    await shell(sandbox, rename('one', 'first'))
    const once = renamed('one', 'first')(before)
    expect(await names(sandbox)).toEqual(once)
    const middle = await sandbox.checkpoint()
    await shell(sandbox, rename('first', 'two/again'))
    expect(await names(sandbox)).toEqual(renamed('first', 'two/again')(once))
    expect(await shell(sandbox, 'cat two/again/inner/most/deep.txt')).toBe('deep in one')
    await shell(sandbox, rename('two', 'both'))
    expect(await shell(sandbox, 'cat both/again/top.txt both/top.txt')).toBe('top of onetop of two')
    await sandbox.rollback(middle)
    expect(await names(sandbox)).toEqual(once)
    await sandbox.rollback(start)
    expect(await names(sandbox)).toEqual(before)
  },
)

test('files.rename takes the same way', async () => {
  makeProject(state.workspace, 'one', 'two')
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.files.rename('one', 'two/one')
  expect(await sandbox.files.read('two/one/inner/most/deep.txt')).toBe('deep in one')
  const checkpoint = await sandbox.checkpoint()
  await sandbox.files.rename('two', 'both')
  await expect(sandbox.files.rename('both', 'src')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
  await expect(sandbox.files.rename('both', '/tmp/both')).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  expect(await shell(sandbox, 'cat both/one/top.txt')).toBe('top of one')
  await sandbox.rollback(checkpoint)
  expect(await sandbox.files.exists('two/one/top.txt')).toBe(true)
})

test('everything in the tree comes along', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await python(
    sandbox,
    `
os.makedirs('tree/closed/inner'); os.makedirs('tree/shared'); os.makedirs('tree/empty')
for name in ('plain', 'closed/inner/file', b'tree/\\xff odd\\n name'):
    full = name if isinstance(name, bytes) else 'tree/' + name
    open(full, 'w').write('contents of ' + repr(name))
os.link('tree/plain', 'tree/closed/second name')
os.symlink('../outside', 'tree/link'); os.symlink('/nowhere', 'tree/closed/dangling'); os.symlink('closed', 'tree/to directory')
os.mkfifo('tree/fifo'); socket.socket(socket.AF_UNIX).bind('tree/socket')
open('tree/program', 'w').write('#!/bin/sh'); os.chmod('tree/program', 0o4755); os.chmod('tree/plain', 0)
os.setxattr('tree/plain', 'user.mark', b'file'); os.setxattr('tree/shared', 'user.mark', b'directory')
acl = struct.pack('I', 2) + b''.join(struct.pack('HHI', *entry) for entry in [(1, 7, 2**32 - 1), (2, 5, 0), (4, 5, 2**32 - 1), (16, 5, 2**32 - 1), (32, 0, 2**32 - 1)])
os.setxattr('tree/shared', 'system.posix_acl_default', acl)
open('tree/shared/inherits', 'w').close(); os.mkdir('tree/shared/inherits too')
os.chmod('tree/shared', 0o3775)
if ${isRoot ? 1 : 0}:
    os.chown('tree/closed/inner', ${INSIDE_UID}, 5); os.chown('tree/closed/inner/file', 7, 8, follow_symlinks=False)
os.chmod('tree/closed/inner', 0); os.chmod('tree/closed', 0o555)
for directory in ('tree/closed/inner', 'tree/closed', 'tree/shared', 'tree/empty', 'tree'): os.utime(directory, ns=(10**18, 10**18 + 7))
os.mkdir('inherits'); os.setxattr('inherits', 'system.posix_acl_default', acl)
print('{}')`,
  )
  const checkpoint = await sandbox.checkpoint()
  const before = await python(sandbox, `print(json.dumps(picture('tree')))`)
  expect(Object.keys(before as object).length).toBeGreaterThan(15)
  // A destination whose directories inherit attributes that the tree must not get.
  const after = await python(
    sandbox,
    `os.rename('tree', 'inherits/moved'); print(json.dumps(picture('inherits/moved')))`,
  )
  expect(after).toEqual(before)
  expect(await names(sandbox)).not.toContain('./tree')
  await sandbox.rollback(checkpoint)
  expect(await python(sandbox, `print(json.dumps(picture('tree')))`)).toEqual(before)
})

test('errors are those of rename(2), and change nothing', async () => {
  makeProject(state.workspace, 'one', 'two', 'three')
  mkdirSync(join(state.workspace, 'empty'))
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const before = await names(sandbox)
  const outcomes = await python(
    sandbox,
    `
os.mkdir('/tmp/upper'); os.mkdir('/tmp/upper two')
rename = os.rename
print(json.dumps({
    'another volume': outcome(rename, 'one', '/tmp/one'),
    'into itself': outcome(rename, 'one', 'one/inner/most/one'),
    'its own parent': outcome(rename, 'one/inner', 'one'),
    'not empty': outcome(rename, 'one', 'two'),
    'a file': outcome(rename, 'one', 'README.md'),
    'a file on a directory': outcome(rename, 'README.md', 'one'),
    'no such parent': outcome(rename, 'one', 'nowhere/one'),
    'no such directory': outcome(rename, 'nowhere', 'one'),
    'a file as parent': outcome(rename, 'one', 'README.md/one'),
    'itself': outcome(rename, 'one', 'one'),
    'dot': outcome(rename, 'one/.', 'other'),
    'dot dot': outcome(rename, 'one', 'two/..'),
    'a volume': outcome(rename, '/workspace', '/tmp/workspace'),
    'too long': outcome(rename, 'one', 'x' * 256),
    'no path': outcome(rename2, '', 'x', 0),
    'not replaced': outcome(rename2, 'one', 'empty', NOREPLACE),
    'read-only': outcome(rename, '/mnt', '/other'),
    'proc': outcome(rename, '/proc/self', '/proc/other'),
    # Not in one step, and in several it would not be an exchange.
    'exchange': outcome(rename2, 'one', 'two', EXCHANGE),
    'exchange of a file': outcome(rename2, 'README.md', 'two', EXCHANGE),
    'exchange of new ones': outcome(rename2, '/tmp/upper', '/tmp/upper two', EXCHANGE),
    'unknown flag': outcome(rename2, 'one', 'other', 1 << 10),
    'bad descriptor': outcome(lambda: os.rename('one', 'other', src_dir_fd=99)),
    'bad address': outcome(lambda: (libc.rename(ctypes.c_void_p(8), b'x') and (_ for _ in ()).throw(OSError(ctypes.get_errno(), '')))),
}))`,
  )
  expect(outcomes).toEqual({
    'another volume': 'EXDEV',
    'into itself': 'EINVAL',
    'its own parent': 'ENOTEMPTY',
    'not empty': 'ENOTEMPTY',
    'a file': 'ENOTDIR',
    'a file on a directory': 'EISDIR',
    'no such parent': 'ENOENT',
    'no such directory': 'ENOENT',
    'a file as parent': 'ENOTDIR',
    itself: 'done',
    dot: 'EBUSY',
    'dot dot': 'EBUSY',
    'a volume': 'EXDEV',
    'too long': 'ENAMETOOLONG',
    'no path': 'ENOENT',
    'not replaced': 'EEXIST',
    'read-only': 'EROFS',
    proc: 'ENOENT',
    exchange: 'EXDEV',
    'exchange of a file': 'EXDEV',
    'exchange of new ones': 'done',
    'unknown flag': 'EINVAL',
    'bad descriptor': 'EBADF',
    'bad address': 'EFAULT',
  })
  expect(await names(sandbox)).toEqual(before)
})

test('every way to name a directory', async () => {
  makeProject(state.workspace, 'a', 'b', 'c', 'd', 'e', 'f')
  mkdirSync(join(state.workspace, 'empty'))
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const found = await python(
    sandbox,
    `
os.symlink('/workspace', '/tmp/absolute'); os.symlink('../workspace/b', '/tmp/link'); os.symlink('.', 'here')
workspace = os.open('/workspace', os.O_PATH); b = os.open('b', os.O_RDONLY)
os.chdir('b/inner')
os.rename('../../a', '/workspace/to/../a2' if os.path.exists('/workspace/to') else '/workspace/a2')
os.rename('/tmp/absolute/here/c/', '/tmp/absolute/c2///')
os.rename('d', '../../workspace/d2', src_dir_fd=workspace, dst_dir_fd=workspace)
os.rename('inner', 'inner2', src_dir_fd=b, dst_dir_fd=b)
rename2('/workspace/e', '/workspace/e2', NOREPLACE)
os.rename('/workspace/f', '/workspace/empty')
results = [outcome(os.rename, '/tmp/link', '/tmp/link2'), outcome(os.rename, '/tmp/link2/', '/tmp/link3')]
os.chdir('/workspace')
print(json.dumps([results, sorted(os.listdir('.')), sorted(os.listdir('b')), sorted(os.listdir('empty')), open('a2/inner/most/deep.txt').read()]))`,
  )
  expect(found).toEqual([
    ['done', 'ENOTDIR'],
    ['README.md', 'a2', 'b', 'c2', 'd2', 'e2', 'empty', 'here', 'src'],
    ['inner2', 'top.txt'],
    ['inner', 'top.txt'],
    'deep in a',
  ])
})

test('threads rename side by side, and each call is carried out once', async () => {
  makeProject(state.workspace, ...Array.from({ length: 12 }, (_, index) => `dir${index}`))
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const found = await python(
    sandbox,
    `
errors = []
def there_and_back(name):
    try:
        for round in range(5):
            os.rename(name, name + '-moved'); os.rename(name + '-moved', name)
    except OSError as error: errors.append(str(error))
threads = [threading.Thread(target=there_and_back, args=(f'dir{index}',)) for index in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
taken = []
race = [threading.Thread(target=lambda index=index: taken.append(outcome(os.rename, 'dir0', f'winner{index}'))) for index in range(8)]
for thread in race: thread.start()
for thread in race: thread.join()
print(json.dumps([errors, taken.count('done'), len([name for name in os.listdir('.') if name.startswith('winner')])]))`,
  )
  expect(found).toEqual([[], 1, 1])
})

test('what others write into the tree meanwhile is not lost', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await shell(sandbox, 'mkdir tree; for i in $(seq 300); do echo $i > tree/file$i; done; echo 0 > tree/counter')
  await sandbox.checkpoint()
  const found = await python(
    sandbox,
    `
last = 0; made = []; going = True
def write():
    global last
    number = 0
    while going:
        number += 1
        try:
            open('tree/.new', 'w').write(str(number)); os.rename('tree/.new', 'tree/counter'); last = number
            os.mkdir(f'tree/new{number}'); open(f'tree/new{number}/file', 'x').close(); made.append(number)
        except OSError: return
        time.sleep(0.005)
writer = threading.Thread(target=write)
writer.start()
while last < 3: time.sleep(0.001)
result = outcome(os.rename, 'tree', 'moved')
going = False
writer.join()
missing = [number for number in made if not os.path.exists(f'moved/new{number}/file')]
files = len([name for name in os.listdir('moved') if name.startswith('file')])
print(json.dumps([result, int(open('moved/counter').read()) - last, missing, files, os.path.exists('tree')]))`,
  )
  expect(found).toEqual(['done', 0, [], 300, false])
})

/** Renames a tree for each line that it reads; lives on, so that a rollback finds it. */
const MOVER = `
for line in iter(sys.stdin.readline, ''):
    print(outcome(os.rename, *line.split()), flush=True)
`

test('checkpoints and rollbacks while a large tree moves', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await shell(sandbox, 'mkdir tree; for i in $(seq 600); do echo $i > tree/file$i; done')
  const mover = await sandbox.commands.run(['python3', '-c', PRELUDE + MOVER], { background: true })
  const start = await sandbox.checkpoint()
  const answers = () => mover.stdout.split('\n').length - 1
  /** Files below each name, and what else is there. */
  const where = async () =>
    (
      await shell(
        sandbox,
        `for d in *; do echo $d $(find $d -name 'file*' | wc -l); done; ls -A | grep deltabox || true`,
      )
    )
      .split('\n')
      .filter((line) => /tree|moved|deltabox/.test(line))
      .join()
  for (let round = 0; round < 3; round++) {
    const before = answers()
    await mover.sendStdin('tree moved\n')
    await new Promise((resolve) => setTimeout(resolve, 10 * round))
    // A checkpoint waits for the move, comes before it, or says that it is busy.
    const checkpoint = await sandbox.checkpoint().catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'BUSY' })
      return undefined
    })
    await until('the move', () => answers() > before)
    expect(await where()).toBe('moved 600')
    if (checkpoint) {
      await sandbox.rollback(checkpoint, { redo: false })
      // Moved before the checkpoint, or the call begins again, or the process waits for the line that told it to.
      await until('one whole tree', async () => ['moved 600', 'tree 600'].includes(await where()))
    }
    await sandbox.rollback(start, { redo: false })
    expect(await where()).toBe('tree 600')
  }
  expect(mover.stdout).not.toMatch(/[A-Z]/)
})

test('a working directory and descriptors inside the tree stay with the removed original', async () => {
  makeProject(state.workspace, 'one')
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const found = await python(
    sandbox,
    `
file = open('one/inner/most/deep.txt', 'a+'); directory = os.open('one/inner', os.O_RDONLY); os.chdir('one/inner')
os.rename('/workspace/one', '/workspace/two')
file.write(' and more'); file.flush()
print(json.dumps([open('/workspace/two/inner/most/deep.txt').read(), os.listdir(directory), outcome(os.stat, 'most'), outcome(os.getcwd)]))`,
  )
  expect(found).toEqual(['deep in one and more', [], 'ENOENT', 'ENOENT'])
})

test('files that are open stay those of the tree, over checkpoints too', async () => {
  makeProject(state.workspace, 'one')
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const holder = await sandbox.commands.run(
    [
      'python3',
      '-c',
      `${PRELUDE}
file = open('one/inner/most/deep.txt', 'a'); number = os.stat('one/inner/most/deep.txt').st_ino
os.rename('one', 'two')
print(os.readlink(f'/proc/self/fd/{file.fileno()}'), os.stat('two/inner/most/deep.txt').st_ino == number, flush=True)
for line in iter(sys.stdin.readline, ''):
    file.write(line); file.flush(); print('WRITTEN', flush=True)`,
    ],
    { background: true },
  )
  await until('the rename', () => holder.stdout.includes('\n'))
  expect(holder.stdout).toBe('/workspace/two/inner/most/deep.txt True\n')
  const { warnings } = await sandbox.checkpoint()
  expect(warnings).toEqual([])
  await holder.sendStdin(' and more\n')
  await until('the line', () => holder.stdout.includes('WRITTEN'))
  expect(await sandbox.files.read('two/inner/most/deep.txt')).toBe('deep in one and more\n')
})

test('the renames process is replaced when it dies', async () => {
  makeProject(state.workspace, 'one', 'two')
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const { enginePid, warnings } = await sandbox.getInfo()
  expect(warnings).toEqual([])
  const helpers = () =>
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        try {
          const [, name, parent] = /\((.*)\) . (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? []
          return name === 'deltabox-rename' && Number(parent) === enginePid
        } catch {
          return false
        }
      })
      .map(Number)
  const [first] = helpers()
  expect(first).toBeDefined()
  process.kill(first ?? 0, 'SIGKILL')
  await until('another one', () => helpers().some((pid) => pid !== first))
  await shell(sandbox, 'mv -T one first; mv -T README.md readme; ls first')
  const checkpoint = await sandbox.checkpoint()
  await shell(sandbox, 'mv -T first again')
  await sandbox.rollback(checkpoint)
  expect(await shell(sandbox, 'cat first/top.txt')).toBe('top of one')
})

/** Runs a program as a container does whose own filter has a listener, which lasts until standard input ends. */
const UNDER_A_LISTENER = `
import ctypes, os, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))  # return SECCOMP_RET_ALLOW
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 1, ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.syscall(317, 1, 1 << 3, program) >= 0
print(subprocess.check_output(sys.argv[1:], text=True), end='', flush=True)
sys.stdin.read()
`

test('where no listener can be had, sandboxes say so and directories stay where they are', async () => {
  makeProject(state.workspace, 'one')
  const cli = fileURLToPath(new URL('../../bin/deltabox.js', import.meta.url))
  const create = [process.execPath, cli, 'create', '--workspace', state.workspace]
  const outer = spawn('python3', ['-c', UNDER_A_LISTENER, ...create], { stdio: ['pipe', 'pipe', 'ignore'] })
  try {
    let id = ''
    outer.stdout.on('data', (data: Buffer) => (id += data.toString()))
    await until('the sandbox', () => id.endsWith('\n'))
    await using sandbox = await Sandbox.connect(id.trim())
    expect((await sandbox.getInfo()).warnings).toEqual([expect.stringContaining('renamed')])
    const found = await python(
      sandbox,
      `print(json.dumps([outcome(os.rename, 'one', 'two'), outcome(os.rename, 'README.md', 'readme')]))`,
    )
    expect(found).toEqual(['EXDEV', 'done'])
    const checkpoint = await sandbox.checkpoint()
    await shell(sandbox, 'mv one two')
    await sandbox.rollback(checkpoint)
    expect(await shell(sandbox, 'cat one/top.txt')).toBe('top of one')
  } finally {
    outer.stdin.end()
  }
})

test('programs inside get no listener for filters of their own', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const found = await python(
    sandbox,
    `
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 1, ctypes.addressof(code)))
result = libc.syscall(317, 1, 1 << 3, program)
print(json.dumps([result, errno.errorcode.get(ctypes.get_errno())]))`,
  )
  expect(found).toEqual([-1, 'EBUSY'])
})

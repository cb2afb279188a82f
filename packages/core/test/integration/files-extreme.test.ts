// Trees at their limits: many files, large ones, long paths, odd names, special files. Each claim is checked from inside
// after a checkpoint and after a rollback from a state in which all of it was destroyed.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()
const LONG_MS = 600_000
/** The full sizes in one of the tiers; what differs between them does not depend on sizes. */
const isFull = process.getuid?.() !== 0

/** Runs Python inside and returns what it printed; what it does not survive fails the test. */
async function python(sandbox: Sandbox, source: string): Promise<string> {
  const { stdout, stderr, exitCode } = await sandbox.commands.run(['python3', '-c', source])
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
  return stdout.trim()
}

/** Makes something, and expects `look` to show the same after a checkpoint, and after a rollback that undoes `ruin`. */
async function expectKept(sandbox: Sandbox, steps: { make: string; look: string; ruin: string }): Promise<string> {
  await python(sandbox, steps.make)
  const seen = await python(sandbox, steps.look)
  const checkpoint = await sandbox.checkpoint()
  expect(await python(sandbox, steps.look), 'after the checkpoint').toBe(seen)
  await python(sandbox, steps.ruin)
  expect(await python(sandbox, steps.look), 'what was ruined').not.toBe(seen)
  await sandbox.rollback(checkpoint)
  expect(await python(sandbox, steps.look), 'after the rollback').toBe(seen)
  return seen
}

const DIRS = isFull ? 100 : 10

test('100,000 small files (10,000 as root)', { timeout: LONG_MS }, async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const seen = await expectKept(sandbox, {
    make: `
import os
for d in range(${DIRS}):
    os.makedirs(f"many/{d}")
    for f in range(1000):
        fd = os.open(f"many/{d}/{f}", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"%d" % (d * 1000 + f))
        os.close(fd)`,
    look: `
import os
count = total = 0
for d in os.scandir("many"):
    for f in os.scandir(d.path):
        count += 1
        total += int(open(f.path).read())
print(count, total)`,
    ruin: `
import os, shutil
for d in range(0, ${DIRS}, 2): shutil.rmtree(f"many/{d}")
for f in range(1000): open(f"many/1/{f}", "w").write("0")
open("many/1/new", "w").write("1")`,
  })
  const files = DIRS * 1000
  expect(seen).toBe(`${files} ${(files * (files - 1)) / 2}`)
})

const SPARSE_BYTES = (isFull ? 10 : 1) * 1024 ** 3
const MIDDLE = SPARSE_BYTES / 2

test('a sparse file of 10 GB (1 GB as root), also one that is open for writing', { timeout: LONG_MS }, async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const holder = await sandbox.commands.run(
    ['python3', '-u', '-c', `f = open("open", "wb"); f.truncate(${SPARSE_BYTES}); f.flush(); print("HELD"); input()`],
    { background: true },
  )
  await until('the holder', () => holder.stdout.includes('HELD'))
  const seen = await expectKept(sandbox, {
    make: `
f = open("large", "wb"); f.truncate(${SPARSE_BYTES})
for at in (0, ${MIDDLE}, ${SPARSE_BYTES} - 5): f.seek(at); f.write(b"data!")`,
    look: `
import os
f = open("large", "rb")
read = []
for at in (0, ${MIDDLE}, ${SPARSE_BYTES} - 5):
    f.seek(at)
    read.append(f.read(5))
print(os.stat("large").st_size, os.stat("open").st_size, read, os.stat("large").st_blocks * 512 < 8 << 20, os.stat("open").st_blocks < 16)`,
    ruin: `
f = open("large", "r+b"); f.seek(${MIDDLE}); f.write(b"gone?"); f.truncate(${MIDDLE + 100})`,
  })
  expect(seen).toBe(`${SPARSE_BYTES} ${SPARSE_BYTES} [b'data!', b'data!', b'data!'] True True`)
  await holder.kill()
})

test('a file of 1 GB of data', { timeout: LONG_MS }, async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await expectKept(sandbox, {
    make: `
f = open("large", "wb")
for part in range(1024): f.write(part.to_bytes(4, "little") * (1 << 18))`,
    look: `
import zlib
found = 0
with open("large", "rb") as f:
    while data := f.read(1 << 20): found = zlib.crc32(data, found)
print(found)`,
    ruin: `
f = open("large", "r+b"); f.seek(500 << 20); f.write(b"x")`,
  })
})

test('paths longer than PATH_MAX and names of any bytes', { timeout: LONG_MS }, async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const seen = await expectKept(sandbox, {
    make: `
import os
names = [b"d" * 255, "ü€😀".encode(), b"\\xff\\xfe", b"new\\nline", b" ", b"-rf", b"*", b"\\x01\\x7f", b"..."]
for name in names: open(name, "wb").write(name)
os.makedirs("deep"); os.chdir("deep")
for level in range(300):
    os.mkdir(b"\\xfe" * 200); os.chdir(b"\\xfe" * 200)
open("bottom", "w").write("reached")`,
    look: `
import os
found = {name: open(name, "rb").read() == name for name in sorted(os.listdir(b".")) if os.path.isfile(name) and name != b"README.md"}
os.chdir("deep")
levels = 0
while os.listdir(b".")[:1] == [b"\\xfe" * 200]: os.chdir(b"\\xfe" * 200); levels += 1
print(found, levels, open("bottom").read() if os.path.exists("bottom") else "gone")`,
    ruin: `
import os, subprocess
os.unlink(b"\\xff\\xfe"); os.unlink(b"d" * 255); open(b"new\\nline", "w").write("other")
subprocess.run(["rm", "-rf", "deep"], check=True); os.mkdir("deep")`,
  })
  expect(seen).toContain('300 reached')
  expect(seen).not.toContain('False')
})

test('modes of setuid, setgid and sticky, access control lists, extended attributes, file capabilities', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const seen = await expectKept(sandbox, {
    make: `
import os, struct
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in [(1, 6, 0xffffffff), (2, 4, 0), (4, 4, 0xffffffff), (16, 6, 0xffffffff), (32, 0, 0xffffffff)])
capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
os.mkdir("directory"); os.chmod("directory", 0o3775)
os.setxattr("directory", "system.posix_acl_default", acl)
open("file", "w").close(); os.chmod("file", 0o6755)
os.setxattr("file", "user.text", b"value"); os.setxattr("file", "user.empty", b""); os.setxattr("file", "user.large", b"x" * 2000)
open("listed", "w").close(); os.setxattr("listed", "system.posix_acl_access", acl)
open("capable", "w").close(); os.setxattr("capable", "security.capability", capability)`,
    look: `
import os
for name in ("directory", "file", "listed", "capable"):
    info = os.stat(name)
    print(name, oct(info.st_mode), info.st_uid, info.st_gid, {key: os.getxattr(name, key) for key in sorted(os.listxattr(name))})`,
    ruin: `
import os
os.chmod("directory", 0o700); os.removexattr("directory", "system.posix_acl_default")
os.chmod("file", 0o600); os.removexattr("file", "user.text"); os.setxattr("file", "user.large", b"y")
os.removexattr("listed", "system.posix_acl_access"); os.removexattr("capable", "security.capability")`,
  })
  expect(seen).toContain('0o43775')
  expect(seen).toContain('0o106755')
  expect(seen.match(/system\.posix_acl_access|system\.posix_acl_default|security\.capability/g)?.length).toBe(3)
})

test('a setuid program runs as its owner only where the sandbox has more than one user, and gains nothing outside', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const hasUsers = process.getuid?.() === 0
  const look = 'cp /usr/bin/id own-id && chmod 4755 own-id && ./own-id -u'
  const { stdout } = await sandbox.commands.run(look)
  expect(stdout.trim()).toBe('0')
  const checkpoint = await sandbox.checkpoint()
  await sandbox.commands.run('rm own-id')
  await sandbox.rollback(checkpoint)
  const asOther = await sandbox.commands.run(
    'chmod 755 . && setpriv --reuid=1000 --regid=1000 --clear-groups ./own-id -u; stat -c %a own-id',
  )
  // Tasks run with no_new_privs, which is inherited and turns the bit off; an ordinary user's sandbox has no user 1000.
  expect(asOther.stdout.trim().split('\n')).toEqual(hasUsers ? ['1000', '4755'] : ['4755'])
})

test('device nodes are refused; FIFOs and sockets are kept as names', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const seen = await expectKept(sandbox, {
    make: `
import os, socket, stat
for kind in (stat.S_IFCHR, stat.S_IFBLK):
    try: os.mknod("device", kind | 0o666, os.makedev(1, 3)); print("made")
    except PermissionError: pass
os.mkfifo("fifo"); socket.socket(socket.AF_UNIX).bind("socket")`,
    look: `
import os, stat
print({name: oct(stat.S_IFMT(os.lstat(name).st_mode)) for name in ("fifo", "socket", "device") if os.path.lexists(name)})`,
    ruin: `import os; os.unlink("fifo"); os.unlink("socket"); os.mkdir("fifo")`,
  })
  expect(seen).toBe("{'fifo': '0o10000', 'socket': '0o140000'}")
})

test('a warning may name a path that is no UTF-8', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const holder = await sandbox.commands.run(
    [
      'python3',
      '-u',
      '-c',
      'import os; n = b"\\xff\\xfe"; os.mkdir(n); f = os.open(n, os.O_RDONLY); os.rmdir(n); print("HELD"); input()',
    ],
    { background: true },
  )
  await until('the holder', () => holder.stdout.includes('HELD'))
  const { warnings } = await sandbox.checkpoint()
  expect(warnings.map(({ reason }) => reason).join()).toContain('\\xff\\xfe')
  await holder.kill()
})

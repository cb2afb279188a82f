// rename(2) of directories by users of the sandbox: never with another's rights.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { names, python, shell } from '../support/renames.js'
import { useTestState } from '../support/state.js'

const state = useTestState()
const isRoot = process.getuid?.() === 0
const INSIDE_UID = 1000

/** A program that becomes an ordinary user of the sandbox, which only root's sandboxes have. */
const asUser = `os.setgroups([]); os.setgid(${INSIDE_UID}); os.setuid(${INSIDE_UID})\n`

/** Started by an ordinary user, a sandbox has one id and so nobody whose rights could differ. */
async function expectOneId(sandbox: Sandbox): Promise<void> {
  expect(await python(sandbox, `print(json.dumps(outcome(os.setuid, ${INSIDE_UID})))`)).toBe('EINVAL')
}

test('a user inside renames what its rights allow, and nothing else', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  if (!isRoot) return await expectOneId(sandbox)
  await shell(
    sandbox,
    `
mkdir -p theirs/tree mine/tree/sub open/theirs sticky/theirs sticky/mine read-only/tree private/tree mixed/foreign
for file in theirs/tree mine/tree mine/tree/sub sticky/theirs sticky/mine read-only/tree private/tree mixed/foreign; do echo x > $file/file; done
chown -R ${INSIDE_UID}:${INSIDE_UID} mine sticky/mine mixed read-only/tree; chown -R 0:0 mixed/foreign
chmod 777 open; chmod 1777 sticky; chmod 700 private; chmod -R 755 theirs; mkdir -p mine/shut; echo x > mine/shut/file
chown -R ${INSIDE_UID} mine/shut; chmod 555 mine/shut`,
  )
  await sandbox.checkpoint()
  const before = await names(sandbox)
  const outcomes = await python(
    sandbox,
    asUser +
      `
print(json.dumps({
    'from a directory of another': outcome(os.rename, 'theirs/tree', 'mine/stolen'),
    'into a directory of another': outcome(os.rename, 'mine/tree', 'theirs/given'),
    'a directory of another, to elsewhere': outcome(os.rename, 'open/theirs', 'mine/stolen'),
    'sticky': outcome(os.rename, 'sticky/theirs', 'sticky/renamed'),
    'out of a read-only directory': outcome(os.rename, 'read-only/tree', 'mine/taken'),
    'through a private directory': outcome(os.rename, 'private/tree', 'mine/taken'),
    # The kernel would do it elsewhere; in steps it takes rights that the user does not have.
    'contents of another': outcome(os.rename, 'mixed/foreign', 'mixed/foreigner'),
    'a read-only tree': outcome(os.rename, 'mine/shut', 'mine/shut too'),
}))`,
  )
  expect(outcomes).toEqual({
    'from a directory of another': 'EACCES',
    'into a directory of another': 'EACCES',
    'a directory of another, to elsewhere': 'EACCES',
    sticky: 'EPERM',
    'out of a read-only directory': 'EACCES',
    'through a private directory': 'EACCES',
    'contents of another': 'EXDEV',
    'a read-only tree': 'EXDEV',
  })
  expect(await names(sandbox)).toEqual(before)
  const allowed = await python(
    sandbox,
    asUser +
      `
os.rename('mine/tree', 'open/tree'); os.rename('sticky/mine', 'sticky/own')
print(json.dumps([[os.stat(path).st_uid for path in ('open/tree', 'open/tree/sub', 'open/tree/sub/file', 'sticky/own')], os.listdir('mine')]))`,
  )
  expect(allowed).toEqual([Array(4).fill(INSIDE_UID), ['shut']])
})

test('a user who changes path and names during the call gets nothing that is not its own', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  if (!isRoot) return await expectOneId(sandbox)
  await shell(
    sandbox,
    `
mkdir -p theirs/secret place mine/a mine/b; echo secret > theirs/secret/file; chmod 700 theirs/secret; chmod 755 theirs
chown ${INSIDE_UID} place; chown -R ${INSIDE_UID} mine; for d in mine/a mine/b; do echo own > $d/file; done; chown -R ${INSIDE_UID} mine`,
  )
  await sandbox.checkpoint()
  const found = await python(
    sandbox,
    asUser +
      `
os.chdir('/workspace')
path = ctypes.create_string_buffer(b'/workspace/mine/a', 64)
going = True
def change_memory():
    while going:
        ctypes.memmove(path, b'/workspace/theirs/secret\\0', 25); ctypes.memmove(path, b'/workspace/mine/a\\0', 18)
def change_links():
    while going:
        for target in ('/workspace/mine', '/workspace/theirs'):
            try: os.symlink(target, 'place/next'); os.rename('place/next', 'place/link')
            except OSError: pass
def change_hidden():
    while going:
        for name in os.listdir('mine'):
            if name.startswith('.deltabox-rename-'):
                try: os.rename('mine/' + name, 'mine/caught'); os.symlink('/workspace/theirs', 'mine/' + name); os.unlink('mine/' + name)
                except OSError: pass
threads = [threading.Thread(target=function) for function in (change_memory, change_links, change_hidden)]
for thread in threads: thread.start()
outcomes = set()
for round in range(60):
    outcomes.add(outcome(lambda: libc.rename(path, b'/workspace/mine/c') and (_ for _ in ()).throw(OSError(ctypes.get_errno(), ''))))
    outcomes.add(outcome(os.rename, 'place/link/b', 'mine/d'))
    for name, new in (('mine/c', 'mine/a'), ('mine/d', 'mine/b')):
        outcomes.add(outcome(os.rename, name, new))
going = False
for thread in threads: thread.join()
print(json.dumps(sorted(outcomes)))`,
  )
  expect(found).not.toContain('EIO')
  expect(await shell(sandbox, 'cat theirs/secret/file; ls -A theirs; stat -c %u:%a theirs theirs/secret')).toBe(
    'secret\nsecret\n0:755\n0:700\n',
  )
  expect(await shell(sandbox, `find mine place -not -uid ${INSIDE_UID}`)).toBe('')
  await sandbox.checkpoint()
})

import type { CheckpointResult, RollbackResult } from '../checkpoints/checkpoint.js'
import type { CheckpointList } from '../checkpoints/tree.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { Sandbox } from '../sandbox/sandbox.js'
import { Claims, type Claim } from './claims.js'
import { hashTree, installProject, type DemoProject } from './project.js'
import { startPython, type PythonSession } from './python-session.js'

const TESTS = "node node_modules/tape/bin/tape 'test/**/*.js'"
const TESTS_TIMEOUT_MS = 120_000
/** Wrong in a way that the project's own tests notice. */
const BAD_PATCH = "sed -i 's/comma: false/comma: true/' lib/parse.js"

/** What the session computes: the size of every file of the project, and all primes below two million. */
const COMPUTE = [
  'import hashlib, os',
  'sizes = {os.path.join(d, f): os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(".") for f in fs}',
  'sieve = bytearray([1]) * 2_000_000',
  'sieve[0:2] = b"\\0\\0"',
  'for i in range(2, 1415): sieve[i*i::i] = bytes(len(range(i*i, 2_000_000, i))) if sieve[i] else sieve[i*i::i]',
  '',
  'digest = lambda: hashlib.sha256(repr(sorted(sizes.items())).encode() + bytes(sieve)).hexdigest()[:16]',
]
const OVERWRITE = ['sizes.clear()', 'sieve = bytearray(10)', 'digest = lambda: "overwritten"']

/** Everything that the demo measured and checked. */
export interface DemoOutcome {
  readonly project: string
  readonly claims: readonly Claim[]
  readonly checkpoint: CheckpointResult
  readonly rollback: RollbackResult
  readonly redo: RollbackResult
  readonly again: RollbackResult
  readonly list: CheckpointList
}

interface TestRun {
  readonly exitCode: number | null
  readonly passed: number
  readonly failed: number
  readonly text: string
}

/** Plays the demo. @throws DeltaboxError when a step could not be made at all */
export async function playDemo(say: (line: string) => void, signal: AbortSignal): Promise<DemoOutcome> {
  say('Installing the project (pinned, from the npm registry) …')
  const project = await installProject()
  try {
    await using sandbox = await Sandbox.create({ workspace: project.dir, signal })
    return await playIn(sandbox, project, say)
  } finally {
    await project.remove()
  }
}

async function playIn(sandbox: Sandbox, project: DemoProject, say: (line: string) => void): Promise<DemoOutcome> {
  const claims = new Claims(say)
  const hostBefore = await hashTree(project.dir)

  say(`Sandbox ${sandbox.id} with ${project.title} as its workspace; a Python session computes state …`)
  const python = await startPython(sandbox)
  await python.tell(...COMPUTE)
  const before = await look(sandbox, python)
  const testsBefore = await runTests(sandbox)
  claims.check('the tests pass', isGreen(testsBefore), testsBefore.text)

  const checkpoint = await sandbox.checkpoint({ name: 'good' })
  say(`Checkpoint ${checkpoint.id} (${ms(checkpoint.pauseMs)} pause). Now a bad patch …`)
  await sandbox.commands.run(BAD_PATCH)
  const testsPatched = await runTests(sandbox)
  claims.check('with the bad patch the tests fail', testsPatched.failed > 0, testsPatched.text)

  say('… rm -rf node_modules, and the session’s variables are overwritten.')
  await sandbox.commands.run('rm -rf node_modules')
  await python.tell(...OVERWRITE)
  const broken = await look(sandbox, python)
  const testsBroken = await runTests(sandbox)
  claims.check('without node_modules the tests do not run', testsBroken.exitCode !== 0, testsBroken.text)
  claims.check('the session has lost its state', broken.digest !== before.digest, broken.digest)

  const rollback = await sandbox.rollback(checkpoint)
  say(`Rolled back (${ms(rollback.pauseMs)} pause).`)
  await checkRestored(claims, sandbox, python, before)
  claims.check(
    'nothing is reported as not restored',
    rollback.notRestored.length === 0,
    `${rollback.notRestored.length}`,
  )

  say('Undoing the rollback, and rolling back once more:')
  const { safetyCheckpoint } = rollback
  if (safetyCheckpoint === null) {
    throw new DeltaboxError('INTERNAL', {
      message: 'the rollback kept no safety checkpoint',
      nextStep: 'report this as a defect',
    })
  }
  const redo = await sandbox.rollback(safetyCheckpoint)
  const redone = await look(sandbox, python)
  claims.check('the undone rollback shows the broken state again', redone.files === broken.files, redone.digest)
  const again = await sandbox.rollback('good')
  await checkRestored(claims, sandbox, python, before)

  claims.check(
    'the host’s copy of the project never changed',
    (await hashTree(project.dir)) === hostBefore,
    project.dir,
  )
  const list = await sandbox.listCheckpoints()
  return { project: project.title, claims: claims.all, checkpoint, rollback, redo, again, list }
}

interface Sight {
  readonly digest: string
  readonly pid: string
  /** Hash over the names and contents of all files of the workspace. */
  readonly files: string
}

async function look(sandbox: Sandbox, python: PythonSession): Promise<Sight> {
  const { stdout } = await sandbox.commands.run('find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum')
  return { digest: await python.ask('digest()'), pid: await python.ask('os.getpid()'), files: stdout.slice(0, 16) }
}

async function checkRestored(claims: Claims, sandbox: Sandbox, python: PythonSession, before: Sight): Promise<void> {
  const after = await look(sandbox, python)
  claims.check('every file has its contents back', after.files === before.files, after.files)
  claims.check('the session has its variables', after.digest === before.digest, after.digest)
  claims.check('and its pid', after.pid === before.pid && Number(after.pid) === python.pid, `pid ${after.pid}`)
  const tests = await runTests(sandbox)
  claims.check('the tests pass again', isGreen(tests), tests.text)
}

async function runTests(sandbox: Sandbox): Promise<TestRun> {
  const { exitCode, stdout } = await sandbox.commands.run(TESTS, { timeoutMs: TESTS_TIMEOUT_MS })
  const count = (what: string) => Number(new RegExp(`^# ${what} +(\\d+)$`, 'm').exec(stdout)?.[1] ?? 0)
  const [passed, failed] = [count('pass'), count('fail')]
  return { exitCode, passed, failed, text: `exit code ${exitCode}, ${passed} passed, ${failed} failed` }
}

const isGreen = ({ exitCode, passed, failed }: TestRun) => exitCode === 0 && passed > 0 && failed === 0
const ms = (durationMs: number) => `${durationMs.toFixed(2)} ms`

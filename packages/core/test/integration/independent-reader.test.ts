// An independent reader agrees: a checkpoint changes nothing, and a rollback restores everything that it claims.
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Sandbox, type CommandHandle } from '../../src/index.js'
import { differences, readState, type State } from '../support/reader.js'
import { until, useTestState } from '../support/state.js'

const ROLLBACKS = 10
const MAX_READINGS = 5
const CHANGE_MS = 30_000

const state = useTestState()
const sessionSource = readFileSync(new URL('../reader/session.py', import.meta.url), 'utf8')

/** Where a state differs from the wanted one; tasks that were just thawed get a moment to block again. */
async function differsFrom(wanted: State, sandbox: Sandbox): Promise<string[]> {
  let found: string[] = []
  for (let attempt = 0; attempt < MAX_READINGS; attempt++) {
    found = differences(wanted, await readState(sandbox))
    if (found.length === 0) break
  }
  return found
}

/** The state once two readings agree: nothing is on its way any more. */
async function readQuiet(sandbox: Sandbox): Promise<State> {
  let last = await readState(sandbox)
  for (let attempt = 0; attempt < MAX_READINGS; attempt++) {
    const next = await readState(sandbox)
    if (differences(last, next).length === 0) return next
    last = next
  }
  throw new Error('the sandbox does not stand still')
}

/** A multi-threaded Python and a bash with a child, both with state of many kinds. */
class Session {
  private constructor(
    readonly python: CommandHandle,
    readonly bash: CommandHandle,
  ) {}

  static async start(sandbox: Sandbox): Promise<Session> {
    await sandbox.files.write('/root/session.py', sessionSource)
    const python = await sandbox.commands.run(['python3', '-u', '/root/session.py'], { background: true })
    const bash = await sandbox.commands.run(['bash', '--norc'], { background: true })
    await bash.sendStdin(
      'cd src; umask 077; value=one; list=(a b c); trap "echo usr1" USR1; exec 7<>main.txt 8<README.md; ' +
        'read -u 7 -n 3 x; exec 5<> <(:); cat <&5 & echo READY\n',
    )
    await until('both are ready', () => [python, bash].every(({ stdout }) => stdout.includes('READY')))
    return new Session(python, bash)
  }

  /** Alters everything in both processes. A deep change also makes threads and children, which no rollback brings back. */
  async change(number: number, depth: 'deep' | 'shallow'): Promise<void> {
    const before = [this.python.stdout.length, this.bash.stdout.length] as const
    await this.python.sendStdin(`change ${number} ${depth}\n`)
    await this.bash.sendStdin(
      `cd /tmp; umask ${number % 8}; value=${'x'.repeat(5000 * number)}; trap - USR1; trap "" INT; exec 7>&-; ` +
        `exec 9>/tmp/nine${number}; echo more >&9; f() { :; }; rm -f /workspace/README.md; ` +
        (depth === 'deep' ? 'sleep 5001 & (sleep 5002; true) & ' : '') +
        'echo CHANGED\n',
    )
    const hasChanged = ({ stdout }: CommandHandle, from: number) => stdout.slice(from).includes('CHANGED')
    await until(
      'both have changed',
      () => hasChanged(this.python, before[0]) && hasChanged(this.bash, before[1]),
      CHANGE_MS,
    )
  }
}

test('a checkpoint changes nothing, and ten rollbacks restore everything', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const session = await Session.start(sandbox)
  const before = await readQuiet(sandbox)
  expect(Object.values(before.processes).map(({ threads }) => Object.keys(threads).length)).toEqual([5, 1, 1])
  expect(before.files['/workspace/src/main.txt']).toMatchObject({ type: 'file', size: 9 })

  const checkpoint = await sandbox.checkpoint({ strict: true })
  expect(await differsFrom(before, sandbox)).toEqual([])

  for (let round = 1; round <= ROLLBACKS; round++) {
    await session.change(1, 'deep')
    if (round === 1) expect(differences(before, await readState(sandbox)).length).toBeGreaterThan(50)
    const done = await sandbox.rollback(checkpoint, { redo: round % 2 === 0 })
    expect(done.notRestored, `round ${round}`).toEqual([])
    expect(await differsFrom(before, sandbox), `round ${round}`).toEqual([])
  }
})

test('to the grandparent, forward again, and from sibling to sibling', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const session = await Session.start(sandbox)
  const states = new Map<string, State>()
  const mark = async (name: string) => {
    states.set(name, await readQuiet(sandbox))
    await sandbox.checkpoint({ name, strict: true })
  }
  const returnTo = async (name: string) => {
    const done = await sandbox.rollback(name)
    expect(done.notRestored, name).toEqual([])
    const wanted = states.get(name)
    expect(wanted && (await differsFrom(wanted, sandbox)), name).toEqual([])
  }
  await mark('grandparent')
  await session.change(1, 'shallow')
  await mark('parent')
  await session.change(2, 'shallow')
  await mark('child')
  await session.change(3, 'deep')
  await returnTo('grandparent')
  await returnTo('child')
  await returnTo('parent')
  await session.change(4, 'shallow')
  await mark('sibling')
  await session.change(5, 'deep')
  for (const name of ['child', 'sibling', 'grandparent', 'sibling', 'parent', 'child']) await returnTo(name)
})

// `deltabox shell` on a real terminal.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { sandboxDirs, useTestState } from '../support/state.js'
import { deltaboxOnTerminal } from '../support/terminal.js'

const state = useTestState()
const PROMPT = '# '
const SIGTERM = 15

test('colours, size, resizing, job control, Ctrl-C and the exit code, in a sandbox of its own', async () => {
  const session = await deltaboxOnTerminal(
    ['shell', '--workspace', state.workspace, '--env', 'EXTRA=x'],
    [
      { expect: PROMPT },
      { send: 'echo "<$EXTRA $TERM $(tput colors) $(stty size)>"\r' },
      { expect: String.raw`<x [\w-]+ \d+ 24 80>` },
      { resize: [30, 100] },
      { send: 'sleep 0.3; echo "<$(stty size)>"\r' },
      { expect: '<30 100>' },
      { expect: PROMPT },
      // It says when keys reach it: before, they would reach the shell.
      { send: `bash -c 'trap "echo goes on" CONT; echo started; while :; do sleep 0.1; done'\r` },
      { expect: String.raw`started\r+\n` },
      { send: '\x1a' },
      { expect: 'Stopped' },
      { expect: PROMPT },
      { send: 'fg\r' },
      { expect: String.raw`goes on\r+\n` },
      { send: '\x03' },
      { expect: PROMPT },
      { send: 'echo "<$?>"; ls --color=always / | cat -v | grep -c "34m"\r' },
      { expect: String.raw`<130>\s+\d+` },
      { expect: PROMPT },
      { send: 'exit 7\r' },
    ],
  )
  expect(session).toMatchObject({ status: 7, modesRestored: true })
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

test('in a sandbox that exists: the shell lives on when its client is ended, and can be attached to again', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const first = await deltaboxOnTerminal(
    ['shell', sandbox.id],
    [{ expect: PROMPT }, { send: 'KEPT=yes; echo "<$$>"\r' }, { expect: String.raw`<\d+>` }, { signal: SIGTERM }],
  )
  expect(first).toMatchObject({ status: 128 + SIGTERM, modesRestored: true })
  const [shell] = (await sandbox.commands.list()).filter(({ running }) => running)
  expect(shell).toMatchObject({ terminal: true })
  const second = await deltaboxOnTerminal(
    ['shell', sandbox.id, '--attach', String(shell?.pid)],
    [{ expect: PROMPT }, { send: 'echo "<still $KEPT>"; exit\r' }, { expect: '<still yes>' }],
  )
  expect(second).toMatchObject({ status: 0, modesRestored: true })
  expect(await sandbox.isRunning()).toBe(true)
})

test('errors leave the terminal as it was', async () => {
  const steps = [{ expect: 'next: ' }]
  const missing = await deltaboxOnTerminal(['shell', 'sbx_aaaaaaaaaaaa'], steps)
  expect(missing).toMatchObject({ status: 1, modesRestored: true })
  const noProgram = await deltaboxOnTerminal(['shell', '--workspace', state.workspace, '--cwd', '/nowhere'], steps)
  expect(noProgram).toMatchObject({ status: 1, modesRestored: true })
  expect(sandboxDirs(state.stateDir)).toEqual([])

  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const { enginePid } = await sandbox.getInfo()
  const lost = deltaboxOnTerminal(
    ['shell', sandbox.id],
    [{ expect: PROMPT }, { send: `echo "<ready>"\r` }, { expect: '<ready>' }, { expect: 'ENGINE_LOST.*next: ' }],
  )
  const shells = async () => (await sandbox.commands.list()).filter(({ running }) => running)
  while ((await shells()).length === 0) await new Promise((resolve) => setTimeout(resolve, 50))
  await new Promise((resolve) => setTimeout(resolve, 1500))
  process.kill(enginePid, 'SIGKILL')
  expect(await lost).toMatchObject({ status: 1, modesRestored: true })
})

// Programs that live on a terminal.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { Screen } from '../support/screen.js'
import { useTestState } from '../support/state.js'
import { expectLifeAfterDeath, expectTenReturns } from './session.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })
const output = async (sandbox: Sandbox, command: string) => (await sandbox.commands.run(command)).stdout

test('vim: the text, its undo history, registers, marks and a half-typed word', async () => {
  await using sandbox = await create()
  await sandbox.files.write('text', 'one\ntwo\nthree\n')
  const { shell, ask } = await Screen.open(sandbox, {
    command: ['vim', '-u', 'NONE', '-N', 'text'],
    cols: 80,
    rows: 20,
  })
  await ask(':set undolevels=1000 ruler\r', /Top|All/)
  await ask('ggdwafour\x1b', /four/)
  await ask('jma"ayyp:echo "put"\r', /put/)
  const look = async (where: Sandbox, screen: Screen) => {
    await screen.ask(
      ":call writefile([string(getline(1,'$')), string(undotree().seq_cur), @a, string(getpos(\"'a\")), mode()], '/tmp/look') | echo 'lo'.'oked'\r",
      /looked/,
    )
    return output(where, 'cat /tmp/look')
  }
  await expectTenReturns(sandbox, {
    survivors: [shell.pid],
    look: () => look(sandbox, { shell, ask } as Screen),
    change: async () => {
      await ask('uu:echo "un"."done"\r', /undone/)
      await ask('G"bdd:%s/t/T/g\rggma:w!\r', /written/)
    },
  })
  await ask('Gotyped', /typed/)
  const inTheMiddle = await sandbox.checkpoint({ strict: true })
  for (let round = 0; round < 3; round++) {
    const leaving = await Screen.connect(sandbox, shell.pid)
    await leaving.ask(' away', /away/)
    await leaving.shell.sendInput('\x1b:q!\r')
    // Rolled back while it leaves, and made again after it has left.
    if (round > 0) expect((await leaving.shell.wait()).exitCode).toBe(0)
    await sandbox.rollback(inTheMiddle, { strict: true })
    const again = await Screen.connect(sandbox, shell.pid)
    await again.ask(' to the end\x1b:w\r', /written/)
    expect(await sandbox.files.read('text')).toBe('four\ntwo\ntwo\nthree\ntyped to the end\n')
    await sandbox.rollback(inTheMiddle)
  }
  const connected = await Screen.connect(sandbox, shell.pid)
  await connected.ask('\x1b:echo "no"."rmal"\r', /normal/)
  await expectLifeAfterDeath(sandbox, async (where) => look(where, await Screen.connect(where, shell.pid)))
})

test('tmux: its server, windows, panes, shells and their jobs', async () => {
  await using sandbox = await create()
  const tmux = (where: Sandbox, command: string) => output(where, `tmux ${command}`)
  // Waits until what runs in the pane has said so, by a file.
  const type = async (where: Sandbox, pane: string, line: string) => {
    await tmux(where, `send-keys -t ${pane} '${line}; tmux wait-for -S done' Enter; tmux wait-for done`)
  }
  await tmux(
    sandbox,
    "new-session -d -s work -x 90 -y 25 'bash --norc'; tmux set -g default-command 'bash --norc'; tmux set -g automatic-rename off",
  )
  await type(sandbox, 'work:0', 'sleep 1000 & X=one; cd /tmp')
  await tmux(sandbox, 'split-window -d -t work:0; tmux set-buffer kept')
  const look = async (where: Sandbox) => {
    await type(where, 'work:0.0', 'echo $X $PWD $(jobs -p | wc -l) > /tmp/shell')
    const panes = await tmux(
      where,
      'list-panes -a -F "#{session_name} #{window_name} #{pane_id} #{pane_tty} #{pane_width}x#{pane_height}"',
    )
    return `${panes}${await tmux(where, 'show-buffer')}${await output(where, 'cat /tmp/shell')}`
  }
  const pids = async () => (await tmux(sandbox, 'display -p "#{pid} #{pane_pid}"')).trim().split(' ').map(Number)
  await expectTenReturns(sandbox, {
    survivors: await pids(),
    look: () => look(sandbox),
    change: async () => {
      await type(sandbox, 'work:0.0', 'X=two; cd /; kill %1')
      await tmux(
        sandbox,
        'kill-pane -t work:0.1; tmux new-window -d -n more; tmux set-buffer other; tmux rename-session other; tmux rename-session work',
      )
    },
  })
  await expectLifeAfterDeath(sandbox, look)
})

test('fzf, a Go program: the query, the list and the marks', async () => {
  await using sandbox = await create()
  await sandbox.commands.run('seq 1 3000 > numbers')
  const { shell, ask } = await Screen.open(sandbox, {
    command: [
      'bash',
      '-c',
      'while :; do fzf --multi --no-mouse < numbers > new; echo "left $?" >> log; cat new >> log; done',
    ],
    cols: 60,
    rows: 12,
  })
  // It filters beside what it draws: what Tab marks is known once all that match are listed.
  await ask('77', /84\/3000/)
  await ask('\t7', /3\/3000 \(1\)/)
  const choose = async (where: Sandbox) => {
    // Return chooses what was marked, whatever is asked for now.
    const screen = await Screen.connect(where, shell.pid)
    await screen.ask('\x7f8\r', /3000\/3000/)
    return output(where, 'cat log')
  }
  const checkpoint = await sandbox.checkpoint({ strict: true })
  const before = await choose(sandbox)
  expect(before).toBe('left 0\n77\n')
  for (let round = 1; round <= 10; round++) {
    await sandbox.rollback(checkpoint, { strict: true })
    expect(await choose(sandbox), `round ${round}`).toBe(before)
  }
  await sandbox.rollback(checkpoint, { strict: true })
  await sandbox.commands.run('kill -9 -1')
  await sandbox.rollback(checkpoint, { strict: true })
  expect(await choose(sandbox), 'made again').toBe(before)
})

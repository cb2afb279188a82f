// Programs inside that watch files (development servers, test runners) go on seeing changes over checkpoints and
// rollbacks.
import { expect, test } from 'vitest'
import { Sandbox, type CommandHandle } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()

/** What Vite's and webpack's watchers are built on: fs.watch of Node.js on each directory and on a file. */
const WATCHER = `
const fs = require('fs')
const watch = (path) => fs.watch(path, (type, name) => console.log(type + ' ' + path + ' ' + name))
for (const path of ['src', 'src/deep', 'one.txt', '/tmp']) watch(path)
console.log('watching')
`

async function sees(command: CommandHandle, line: string, from: number): Promise<void> {
  await until(`"${line}" in ${command.stdout.slice(from)}`, () => command.stdout.slice(from).includes(line))
}

async function seesAll(sandbox: Sandbox, command: CommandHandle): Promise<void> {
  const from = command.stdout.length
  await sandbox.commands.run('echo x >> src/a; echo x >> src/deep/b; echo x >> one.txt; echo x > /tmp/c')
  for (const line of ['change src a', 'change src/deep b', 'change one.txt', 'change /tmp c']) {
    await sees(command, line, from)
  }
}

test('a program that watches files sees changes after checkpoints and rollbacks', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.commands.run('mkdir -p src/deep; touch src/a src/deep/b one.txt /tmp/c')
  await sandbox.files.write('watcher.cjs', WATCHER)
  const command = await sandbox.commands.run(['node', 'watcher.cjs'], { background: true })
  await sees(command, 'watching', 0)
  await seesAll(sandbox, command)
  const first = await sandbox.checkpoint({ name: 'first' })
  await seesAll(sandbox, command)
  const second = await sandbox.checkpoint({ name: 'second' })
  expect([...first.warnings, ...second.warnings].filter(({ kind }) => kind === 'inotify')).toEqual([])
  await seesAll(sandbox, command)
  for (const name of ['first', 'second', 'first']) {
    await sandbox.commands.run('mv src/deep src/moved; mkdir src/deep; rm one.txt; echo other > one.txt')
    const { notRestored } = await sandbox.rollback(name)
    expect(notRestored.filter(({ kind }) => kind === 'inotify')).toEqual([])
    await seesAll(sandbox, command)
  }
  await sandbox.checkpoint()
  await seesAll(sandbox, command)
})

test('what was written right before a checkpoint is seen', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.commands.run('mkdir -p src/deep; touch src/a src/deep/b one.txt')
  await sandbox.files.write('watcher.cjs', WATCHER)
  const command = await sandbox.commands.run(['node', 'watcher.cjs'], { background: true })
  await sees(command, 'watching', 0)
  await sandbox.checkpoint()
  for (let round = 0; round < 10; round++) {
    const from = command.stdout.length
    await sandbox.files.write(`src/round-${round}`, 'x')
    await sandbox.checkpoint()
    await sees(command, `src round-${round}`, from)
  }
})

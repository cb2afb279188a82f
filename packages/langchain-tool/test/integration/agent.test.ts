// A real agent, real tools and a real sandbox; only the model's words are scripted.
import { Sandbox } from '@deltabox/core'
import { ToolMessage, type BaseMessage } from '@langchain/core/messages'
import { createAgent } from 'langchain'
import { expect, test } from 'vitest'
import { sandboxDirs, useTestState } from '../../../core/test/support/state.js'
import { createDeltaboxTools } from '../../src/index.js'
import { ScriptedModel, type Turn } from '../scripted-model.js'

const state = useTestState()

const answers = (messages: readonly BaseMessage[]) => messages.filter((message) => message instanceof ToolMessage)
const artifact = (message: ToolMessage | undefined) => message?.artifact as Record<string, unknown>
const last = (messages: readonly BaseMessage[]) => artifact(answers(messages).at(-1))

test('an agent breaks its project and its Python session, and rolls both back', async () => {
  let commandId: unknown
  const script: Turn[] = [
    () => ({ tool: 'exec', args: { command: 'exec python3 -i -q -u', background: true, stdin: 'x = 41\n' } }),
    (messages) => {
      commandId = last(messages)['commandId']
      return { tool: 'checkpoint', args: { name: 'good' } }
    },
    () => ({ tool: 'exec', args: { command: 'rm -rf src' } }),
    () => ({ tool: 'exec', args: { commandId, stdin: 'x = "broken"\n', waitMs: 300 } }),
    () => ({ tool: 'rollback', args: { target: 'good' } }),
    () => ({ tool: 'exec', args: { command: 'cat src/main.txt' } }),
    () => ({ tool: 'exec', args: { commandId, stdin: 'print(x + 1)\n' } }),
    () => ({ tool: 'rollback', args: { target: 'nowhere' } }),
    () => ({ tool: 'list_checkpoints', args: {} }),
    () => 'all is well',
  ]
  await using tools = createDeltaboxTools({ workspace: state.workspace })
  const agent = createAgent({ model: new ScriptedModel(script), tools })
  const { messages } = await agent.invoke({ messages: [{ role: 'user', content: 'go' }] }, { recursionLimit: 50 })

  const seen = answers(messages)
  expect(seen.map(({ status }) => status)).toEqual([...Array<string>(7).fill('success'), 'error', 'success'])
  expect(artifact(seen[4])).toMatchObject({ notRestored: [] })
  expect(artifact(seen[5])).toMatchObject({ exitCode: 0, stdout: 'original\n' })
  expect(artifact(seen[6])).toMatchObject({ stdout: '42\n', running: true })
  expect(seen[7]?.text).toMatch(/^CHECKPOINT_NOT_FOUND: .+\nNext: .+/)
  expect(artifact(seen[8])['head']).toBe(artifact(seen[1])['id'])
  expect(messages.at(-1)?.text).toBe('all is well')

  expect(sandboxDirs(state.stateDir)).toHaveLength(1)
  await tools.close()
  expect(sandboxDirs(state.stateDir)).toEqual([])
})

test('an agent works with files in a sandbox that was made as the factory was told', async () => {
  const script: Turn[] = [
    () => ({ tool: 'write_file', args: { path: 'lib/a.txt', content: 'one\ntwo\n' } }),
    () => ({ tool: 'edit_file', args: { path: 'lib/a.txt', oldText: 'two', newText: 'three' } }),
    () => ({ tool: 'edit_file', args: { path: 'lib/a.txt', oldText: 'not there', newText: '' } }),
    () => ({ tool: 'read_file', args: { path: 'lib/a.txt', firstLine: 2 } }),
    () => ({ tool: 'change_files', args: { action: 'rename', path: 'lib/a.txt', to: '/data/b.txt' } }),
    () => ({ tool: 'change_files', args: { action: 'remove', path: 'lib' } }),
    () => ({ tool: 'list_files', args: {} }),
    () => ({ tool: 'exec', args: { command: 'ulimit -n; ls -d /data; grep a.example /etc/hosts' } }),
    () => 'done',
  ]
  await using tools = createDeltaboxTools({
    workspace: state.workspace,
    network: { allow: ['a.example:443'] },
    limits: { openFiles: 64 },
    volumes: [{ path: '/data' }],
  })
  const agent = createAgent({ model: new ScriptedModel(script), tools })
  const { messages } = await agent.invoke({ messages: [{ role: 'user', content: 'go' }] }, { recursionLimit: 50 })
  const seen = answers(messages)
  const ok = 'success'
  // A rename from one volume to another is refused.
  expect(seen.map(({ status }) => status)).toEqual([ok, ok, 'error', ok, 'error', ok, ok, ok])
  expect(artifact(seen[3])).toMatchObject({ text: 'three\n', firstLine: 2, more: false })
  expect(seen[4]?.text).toMatch(/^UNSUPPORTED: .+\nNext: .+/)
  expect(seen[6]?.text).toBe('/workspace/README.md (12 bytes)\n/workspace/src/')
  expect(artifact(seen[7])).toMatchObject({ stdout: '64\n/data\n127.64.0.1 a.example\n' })
})

test('an agent tries two ways in forks and goes on in the better one', async () => {
  const script: Turn[] = [
    () => ({ tool: 'fork', args: { count: 2 } }),
    () => ({ tool: 'exec', args: { sandbox: 'fork-1', command: 'echo slow > way; exit 1' } }),
    () => ({ tool: 'exec', args: { sandbox: 'fork-2', command: 'echo fast > way' } }),
    () => ({ tool: 'keep_only', args: { sandbox: 'fork-2' } }),
    () => ({ tool: 'exec', args: { command: 'cat way' } }),
    () => 'done',
  ]
  await using mine = await Sandbox.create({ workspace: state.workspace })
  const tools = createDeltaboxTools(mine)
  expect(await tools.sandbox()).toBe(mine)
  const agent = createAgent({ model: new ScriptedModel(script), tools })
  const { messages } = await agent.invoke({ messages: [{ role: 'user', content: 'go' }] }, { recursionLimit: 50 })
  expect(last(messages)).toMatchObject({ stdout: 'fast\n' })
  // The one that was passed in is as it was; the one that was kept is the caller's.
  await tools.close()
  expect((await mine.commands.run('cat way')).exitCode).toBe(1)
  await using kept = await tools.sandbox()
  expect(await kept.files.read('way')).toBe('fast\n')
  expect(sandboxDirs(state.stateDir)).toHaveLength(2)
})

test('a sandbox that was passed in is used and not touched', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const tools = createDeltaboxTools(sandbox)
  const [exec] = tools
  expect(await exec?.invoke({ command: 'echo hello' })).toBe('exit code 0\n[stdout]\nhello')
  await tools.close()
  expect(await sandbox.isRunning()).toBe(true)
})

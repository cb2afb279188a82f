// The built server as a process, driven by the SDK's own client.
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { Sandbox } from '@deltabox/core'
import { afterEach, expect, test } from 'vitest'
import { sandboxDirs, until, useTestState } from '../../../core/test/support/state.js'

const serverPath = fileURLToPath(new URL('../../bin/deltabox-mcp.js', import.meta.url))
const state = useTestState()
const open: Client[] = []
afterEach(async () => {
  for (const client of open.splice(0)) await client.close()
})

async function connect(...args: string[]): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' })
  open.push(client)
  const env = { ...(process.env as Record<string, string>), DELTABOX_STATE_DIR: state.stateDir }
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [serverPath, ...args], env }))
  return client
}

async function call(client: Client, name: string, args: Record<string, unknown> = {}) {
  const result = await client.callTool({ name, arguments: args })
  const [content] = result.content as { type: string; text: string }[]
  const failure = result._meta?.['deltabox/error']
  const data = (failure === undefined ? result.structuredContent : { error: failure }) as Record<string, unknown>
  return { text: content?.text ?? '', data, isError: result.isError === true }
}

test('an agent’s day: a live session, a checkpoint, damage, a rollback', async () => {
  const client = await connect('--workspace', state.workspace)
  await client.listTools()
  expect(sandboxDirs(state.stateDir)).toEqual([])

  expect(await call(client, 'exec', { command: 'cat src/main.txt; exit 4' })).toMatchObject({
    text: 'exit code 4\n[stdout]\noriginal',
    data: { exitCode: 4, stdout: 'original\n', running: false, commandId: null },
    isError: false,
  })
  const python = await call(client, 'exec', { command: 'exec python3 -i -q -u', background: true, stdin: 'x = 41\n' })
  const { commandId } = python.data
  expect(python.data).toMatchObject({ running: true, commandId: expect.any(Number) as number })
  const taken = await call(client, 'checkpoint', { name: 'good' })
  expect(taken.text).toContain('(good)')

  await call(client, 'exec', { command: 'rm -rf src' })
  expect((await call(client, 'exec', { commandId, stdin: 'x = 0; print(x)\n' })).data).toMatchObject({ stdout: '0\n' })
  const back = await call(client, 'rollback', { target: 'good' })
  expect(back.data).toMatchObject({ checkpoint: taken.data['id'], notRestored: [] })
  expect((await call(client, 'exec', { command: 'cat src/main.txt' })).data).toMatchObject({ stdout: 'original\n' })
  expect((await call(client, 'exec', { commandId, stdin: 'print(x + 1)\n' })).data).toMatchObject({ stdout: '42\n' })
  expect((await call(client, 'list_checkpoints')).data).toMatchObject({ head: taken.data['id'] })
  const ended = await call(client, 'exec', { commandId, stdin: 'exit(5)\n' })
  expect(ended.data).toMatchObject({ running: false, exitCode: 5 })

  await client.close()
  await until('the server’s own sandbox is gone', () => sandboxDirs(state.stateDir).length === 0)
})

test('best of three: each fork tries its way at the same time, and the work goes on in the one whose tests pass', async () => {
  const client = await connect('--workspace', state.workspace)
  await call(client, 'write_file', { path: 'test.sh', content: 'test "$(cat answer)" = 42\n' })
  const server = await call(client, 'exec', { command: 'exec python3 -i -q -u', background: true, stdin: 'y = 40\n' })
  const forked = await call(client, 'fork', { count: 3 })
  expect(forked.text).toMatch(/^forked from cp-\d+: fork-1, fork-2, fork-3$/)
  const { commandId } = server.data
  const results = await Promise.all(
    ['fork-1', 'fork-2', 'fork-3'].map(async (sandbox, index) => {
      const stdin = `open("answer", "w").write(str(y + ${index + 1}))\n`
      await call(client, 'exec', { sandbox, commandId, stdin })
      const { data } = await call(client, 'exec', { sandbox, command: 'sh test.sh' })
      return { sandbox, exitCode: data['exitCode'] }
    }),
  )
  const passing = results.filter(({ exitCode }) => exitCode === 0)
  expect(passing).toMatchObject([{ sandbox: 'fork-2' }])
  const kept = await call(client, 'keep_only', { sandbox: passing[0]?.sandbox })
  expect(kept.text).toMatch(/^fork-2 is main \(sbx_\w+\); ended: fork-1, fork-3, main$/)
  expect((await call(client, 'read_file', { path: 'answer' })).data).toMatchObject({ text: '42' })
  expect(await call(client, 'exec', { sandbox: 'fork-9', command: 'true' })).toMatchObject({
    isError: true,
    text: 'SANDBOX_NOT_FOUND: there is no sandbox fork-9\nNext: use one of: main, fork-2',
  })
  await client.close()
  await until('all sandboxes are gone', () => sandboxDirs(state.stateDir).length === 0)
})

test('flags say what the sandbox may use and reach, and what else it sees', async () => {
  const data = join(state.workspace, '..', 'data')
  mkdirSync(data)
  writeFileSync(join(data, 'file'), 'of the host\n')
  const places = ['--workspace', state.workspace, '--volume', `${data}:/data:ro`]
  const client = await connect(...places, '--allow', 'a.example:443', '--processes', '100', '--metadata', 'team=a')
  const answer = await call(client, 'exec', { command: 'cat /data/file; echo x > /data/file' })
  expect(answer.data).toMatchObject({ stdout: 'of the host\n', exitCode: 1 })
  const [id = ''] = sandboxDirs(state.stateDir)
  const sandbox = await Sandbox.connect(id)
  expect(await sandbox.getInfo()).toMatchObject({
    network: { allow: ['a.example:443'] },
    limits: { processes: 100 },
    metadata: { team: 'a', name: 'mcp-server' },
    orphanTimeoutMs: 600_000,
  })
  sandbox.disconnect()
})

test.each([
  [['--sandbox', 'sbx_aaaaaaaaaaaa', '--allow', 'a.example'], /cannot be used with option/],
  [['--network', 'host', '--allow', 'a.example'], /contradict each other/],
  [['--bogus'], /unknown option/],
])('flags that make no sense end the server with the reason: %j', (args, reason) => {
  const { status, stderr } = spawnSync(process.execPath, [serverPath, ...args], { encoding: 'utf8', input: '' })
  expect(status).toBe(1)
  expect(stderr).toMatch(reason)
})

test('a model works with files: write, edit, read, list, rename, remove', async () => {
  const client = await connect('--workspace', state.workspace)
  await call(client, 'write_file', { path: 'lib/a.txt', content: 'one\ntwo\n' })
  const edited = await call(client, 'edit_file', { path: 'lib/a.txt', oldText: 'two', newText: 'three' })
  expect(edited).toMatchObject({ isError: false, data: { replaced: 1 } })
  expect((await call(client, 'read_file', { path: 'lib/a.txt' })).text).toBe('lib/a.txt: lines 1 to 2\none\nthree\n')
  await call(client, 'change_files', { action: 'rename', path: 'lib/a.txt', to: 'lib/b.txt' })
  expect((await call(client, 'list_files', { path: 'lib' })).text).toBe('/workspace/lib/b.txt (10 bytes)')
  await call(client, 'change_files', { action: 'remove', path: 'lib' })
  expect(await call(client, 'read_file', { path: 'lib/b.txt' })).toMatchObject({
    isError: true,
    text: expect.stringMatching(/^NOT_FOUND: .+\nNext: .+/) as string,
  })
  const server = await call(client, 'exec', { command: 'exec sleep 1000', background: true, waitMs: 0 })
  const { commandId } = server.data
  expect((await call(client, 'exec', { commandId, signal: 'SIGTERM' })).data).toMatchObject({ signal: 'SIGTERM' })
})

test('failures tell the model what to do next', async () => {
  const client = await connect('--workspace', state.workspace)
  expect(await call(client, 'rollback', { target: 'nowhere' })).toMatchObject({
    isError: true,
    text: expect.stringMatching(/^CHECKPOINT_NOT_FOUND: .+\nNext: .+/) as string,
  })
  expect(await call(client, 'exec', { command: 'echo so far; sleep 60', timeoutMs: 300 })).toMatchObject({
    isError: true,
    text: expect.stringMatching(/^TIMEOUT: .+\nNext: .+\n\[stdout\]\nso far$/s) as string,
  })
  expect(await call(client, 'exec', { commandId: 999 })).toMatchObject({
    isError: true,
    data: { error: { code: 'COMMAND_NOT_FOUND' } },
  })
})

test('a sandbox that it was attached to outlives the server', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const client = await connect('--sandbox', sandbox.id)
  await call(client, 'exec', { command: 'echo hello > from-server' })
  await client.close()
  expect(await sandbox.files.read('from-server')).toBe('hello\n')
})

test('a missing workspace is a failure of the first call, not of the server', async () => {
  const client = await connect('--workspace', `${state.workspace}/missing`)
  expect(await call(client, 'exec', { command: 'true' })).toMatchObject({
    isError: true,
    data: { error: { code: 'NOT_FOUND' } },
  })
})

test('unknown fields are refused, and next steps name what an agent has', async () => {
  const client = await connect('--workspace', state.workspace)
  const { tools } = await client.listTools()
  for (const { name, inputSchema } of tools) expect(inputSchema, name).toMatchObject({ additionalProperties: false })
  const misspelt = await call(client, 'exec', { command: 'true', timeout: 5 })
  expect(misspelt).toMatchObject({ isError: true, text: expect.stringContaining('timeout') as string })
  expect(await call(client, 'checkpoint', { label: 'x' })).toMatchObject({ isError: true })
  const unknown = await call(client, 'exec', { commandId: 99 })
  expect(unknown.isError).toBe(true)
  expect(unknown.text).toMatch(/^COMMAND_NOT_FOUND: [^]*\nNext: use a commandId that exec returned/)
})

test('a server that is killed leaves a sandbox that ends by itself', async () => {
  const client = await connect('--workspace', state.workspace)
  await call(client, 'exec', { command: 'sleep 1000', background: true, waitMs: 0 })
  const [id = ''] = sandboxDirs(state.stateDir)
  const { pid } = client.transport as StdioClientTransport
  process.kill(pid ?? 0, 'SIGKILL')
  await until('the server is gone', () => !isAlive(pid ?? 0))
  const sandbox = await Sandbox.connect(id)
  expect((await sandbox.getInfo()).orphanTimeoutMs).toBe(600_000)
  await sandbox.kill()
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

// What an agent's tools do, in a real sandbox; the adapters' tests call them through their real clients.
import { expect, test } from 'vitest'
import { Sandbox, isDeltaboxError } from '../../src/index.js'
import { agentTools, ToolSession } from '../../src/tools/index.js'
import { useTestState } from '../support/state.js'

const state = useTestState()

/** Calls a tool by its name; a failure is its code and message. */
async function withTools(
  run: (call: (name: string, input: object) => Promise<Record<string, unknown>>, sandbox: Sandbox) => Promise<void>,
): Promise<void> {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  const session = new ToolSession({ open: () => Promise.resolve(sandbox), atClose: 'keep' })
  await run(async (name, input) => {
    const tool = agentTools.find((candidate) => candidate.name === name)
    try {
      const outcome = await tool?.call(session, input)
      return { ...(outcome?.data as object), shown: outcome?.text }
    } catch (error) {
      if (!isDeltaboxError(error)) throw error
      return { code: error.code, message: error.message, nextStep: error.nextStep }
    }
  }, sandbox)
}

test('read_file gives lines as they are, and says what follows', () =>
  withTools(async (call, sandbox) => {
    const lines = Array.from({ length: 5_000 }, (_, index) => `line ${index + 1} ä\n`)
    await sandbox.files.write('many', lines.join(''))
    expect(await call('read_file', { path: 'many' })).toMatchObject({
      text: lines.slice(0, 2_000).join(''),
      firstLine: 1,
      lastLine: 2_000,
      more: true,
      shown: expect.stringContaining('many: lines 1 to 2000; more follows from firstLine 2001\nline 1 ä\n') as string,
    })
    expect(await call('read_file', { path: '/workspace/many', firstLine: 4_999, lines: 2 })).toMatchObject({
      text: 'line 4999 ä\nline 5000 ä\n',
      lastLine: 5_000,
      more: false,
    })
    expect(await call('read_file', { path: 'many', firstLine: 6_000 })).toMatchObject({
      ...{ text: '', lastLine: 5_999, more: false },
      shown: 'many: nothing from line 6000 on\n',
    })
    await sandbox.files.write('no-newline', '\ufeffa\r\nb')
    expect(await call('read_file', { path: 'no-newline' })).toMatchObject({
      text: '\ufeffa\r\nb',
      lastLine: 2,
      more: false,
    })
    await sandbox.files.write('long', `${'x'.repeat(900_000)}\nend\n`)
    const long = await call('read_file', { path: 'long' })
    expect(long).toMatchObject({ text: 'x'.repeat(60_000), lastLine: 1, more: true })
    expect(long['shown']).toContain('the rest of line 1 is left out, the lines after it begin at firstLine 2')
    expect(await call('read_file', { path: 'long', firstLine: 2 })).toMatchObject({ text: 'end\n', more: false })
    await sandbox.files.write('empty', '')
    expect(await call('read_file', { path: 'empty' })).toMatchObject({ text: '', lastLine: 0, more: false })
    await sandbox.files.write('binary', Buffer.from([1, 0, 2]))
    expect(await call('read_file', { path: 'binary' })).toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(await call('read_file', { path: 'missing' })).toMatchObject({ code: 'NOT_FOUND' })
    expect(await call('read_file', { path: '.' })).toMatchObject({ code: 'INVALID_ARGUMENT' })
  }))

test('write_file and edit_file change what they are told and nothing else', () =>
  withTools(async (call, sandbox) => {
    expect(await call('write_file', { path: 'new/deep/run.sh', content: 'echo ä\n', executable: true })).toMatchObject({
      sizeBytes: 8,
    })
    expect((await sandbox.commands.run('new/deep/run.sh')).stdout).toBe('ä\n')
    await call('write_file', { path: 'new/deep/run.sh', content: 'echo b; echo b\r\n' })
    expect((await sandbox.files.getInfo('new/deep/run.sh')).mode).toBe(0o755)
    const path = 'new/deep/run.sh'
    expect(await call('edit_file', { path, oldText: 'b; ', newText: '$$; ' })).toMatchObject({ replaced: 1 })
    expect(await sandbox.files.read(path)).toBe('echo $$; echo b\r\n')
    expect(await call('edit_file', { path, oldText: 'echo', newText: 'printf' })).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('2 times') as string,
    })
    expect(await call('edit_file', { path, oldText: 'echo', newText: '', replaceAll: true })).toMatchObject({
      replaced: 2,
    })
    expect(await sandbox.files.read(path)).toBe(' $$;  b\r\n')
    expect(await call('edit_file', { path, oldText: 'nothing like it', newText: '' })).toMatchObject({
      code: 'INVALID_ARGUMENT',
      nextStep: expect.stringContaining('read the file') as string,
    })
    await sandbox.files.write('latin1', Buffer.from([0x61, 0xe4, 0x0a]))
    expect(await call('edit_file', { path: 'latin1', oldText: 'a', newText: 'b' })).toMatchObject({
      message: 'latin1 is not UTF-8 text',
    })
    await sandbox.commands.run('ln -s latin1 link')
    expect(await call('edit_file', { path: 'link', oldText: 'a', newText: 'b' })).toMatchObject({
      message: 'link is a link to latin1',
    })
  }))

test('list_files and change_files', () =>
  withTools(async (call, sandbox) => {
    expect(await call('change_files', { action: 'make_directory', path: 'a/b' })).toMatchObject({ changed: true })
    expect(await call('change_files', { action: 'make_directory', path: 'a/b' })).toMatchObject({ changed: false })
    await sandbox.commands.run('echo 12 > a/b/file; ln -s file a/b/link; mkfifo a/fifo')
    expect((await call('list_files', { path: 'a', depth: 2 }))['shown']).toBe(
      '/workspace/a/b/\n/workspace/a/b/file (3 bytes)\n/workspace/a/b/link -> file\n/workspace/a/fifo (fifo)',
    )
    expect((await call('list_files', {}))['shown']).toContain('/workspace/README.md (12 bytes)\n/workspace/a/\n')
    expect((await call('list_files', { path: './a' }))['shown']).toContain('/workspace/a/b/\n')
    expect((await call('list_files', { path: '/home' }))['shown']).toBe('/home is empty')
    await sandbox.commands.run('mkdir many && cd many && for i in $(seq 1 700); do echo > $i; done')
    const many = await call('list_files', { path: 'many' })
    expect(many).toMatchObject({ leftOut: 200 })
    expect(many['entries']).toHaveLength(500)
    expect(await call('change_files', { action: 'rename', path: 'a/b/file', to: 'moved' })).toMatchObject({
      path: 'moved',
    })
    expect(await sandbox.files.read('moved')).toBe('12\n')
    expect(await call('change_files', { action: 'remove', path: 'a' })).toMatchObject({ changed: true })
    expect(await call('list_files', { path: 'a' })).toMatchObject({ code: 'NOT_FOUND' })
    for (const wrong of [
      { action: 'rename', path: 'x' },
      { action: 'remove', path: 'x', to: 'y' },
      { action: 'copy', path: 'x' },
    ]) {
      expect(await call('change_files', wrong), JSON.stringify(wrong)).toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
  }))

test('exec ends the input of a background command, and sends it signals', () =>
  withTools(async (call) => {
    const sort = await call('exec', { command: 'sort', background: true, stdin: 'b\n', waitMs: 0 })
    const { commandId } = sort
    expect(sort).toMatchObject({ running: true })
    expect(await call('exec', { commandId, stdin: 'a\n', endStdin: true })).toMatchObject({
      ...{ running: false, exitCode: 0, stdout: 'a\nb\n' },
    })
    const trap = 'trap "echo caught" INT; echo ready; while :; do sleep 0.1; done'
    const server = await call('exec', { command: trap, background: true })
    expect(server).toMatchObject({ running: true, stdout: 'ready\n' })
    expect(await call('exec', { commandId: server['commandId'], signal: 'SIGINT' })).toMatchObject({
      ...{ running: true, stdout: 'caught\n' },
    })
    expect(await call('exec', { commandId: server['commandId'], signal: 'SIGKILL' })).toMatchObject({
      ...{ running: false, exitCode: null, signal: 'SIGKILL' },
    })
    expect(await call('exec', { command: 'true', signal: 'SIGINT' })).toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(await call('exec', { command: 'true', endStdin: true })).toMatchObject({ code: 'INVALID_ARGUMENT' })
  }))

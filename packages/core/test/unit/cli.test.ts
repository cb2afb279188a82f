import { afterEach, beforeEach, expect, test } from 'vitest'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCli } from '../../src/cli/program.js'
import { renderTable } from '../../src/text/table.js'

let stateDir: string
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'dbx-cli-'))
  process.env['DELTABOX_STATE_DIR'] = stateDir
})
afterEach(() => {
  delete process.env['DELTABOX_STATE_DIR']
  rmSync(stateDir, { recursive: true, force: true })
})

async function cli(...args: string[]) {
  const seen = { stdout: '', stderr: '', exitCode: 0 }
  await runCli(args, {
    stdout: (text) => (seen.stdout += text),
    stderr: (text) => (seen.stderr += text),
    stdoutBytes: (bytes) => void (seen.stdout += Buffer.from(bytes).toString()),
    stderrBytes: (bytes) => void (seen.stderr += Buffer.from(bytes).toString()),
    onSignal: () => () => undefined,
    setExitCode: (code) => (seen.exitCode = code),
    interrupted: new AbortController().signal,
  })
  return seen
}

test('help is no error and names every command', async () => {
  const { stdout, exitCode } = await cli('--help')
  expect(exitCode).toBe(0)
  for (const command of ['doctor', 'demo', 'create', 'exec', 'checkpoint', 'rollback', 'tree', 'ls', 'top', 'rm']) {
    expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'))
  }
})

test.each([
  ['bogus'],
  ['exec'],
  ['exec', 'sbx_aaaaaaaaaaaa'],
  ['create', '--bogus'],
  ['rollback', 'sbx_aaaaaaaaaaaa'],
  ['rm'],
])('wrong usage exits with 2: %s %s', async (...args) => {
  const { stderr, exitCode } = await cli(...args)
  expect(exitCode).toBe(2)
  expect(stderr).toMatch(/^error: /)
})

test.each([
  [['tree', 'sbx_aaaaaaaaaaaa'], 'SANDBOX_NOT_FOUND'],
  [['exec', 'sbx_aaaaaaaaaaaa', '--', 'true'], 'SANDBOX_NOT_FOUND'],
  [['checkpoint', '../x'], 'INVALID_ARGUMENT'],
  [['rm', 'sbx_aaaaaaaaaaaa'], 'SANDBOX_NOT_FOUND'],
  [['create', '--workspace', '/nonexistent'], 'NOT_FOUND'],
  [['create', '--workspace', '/etc/passwd'], 'NOT_A_DIRECTORY'],
  [['create', '--workspace', '/'], 'INVALID_ARGUMENT'],
  [['create', '--network', 'host', '--allow', 'example.org'], 'INVALID_ARGUMENT'],
  [['create', '--allow', 'http://example.org'], 'INVALID_ARGUMENT'],
  [['create', '--rootfs', '/nonexistent'], 'NOT_FOUND'],
  [['create', '--processes', 'x'], 'INVALID_ARGUMENT'],
  [['create', '--volume', 'data'], 'INVALID_ARGUMENT'],
  [['create', '--volume', '/data:ro'], 'INVALID_ARGUMENT'],
  [['create', '--volume', '/nonexistent:/data'], 'NOT_FOUND'],
  [['create', '--metadata', 'novalue'], 'INVALID_ARGUMENT'],
  [['create', '--keep-last', '0'], 'INVALID_ARGUMENT'],
  [['exec', 'sbx_aaaaaaaaaaaa', '--env', 'novalue', '--', 'true'], 'INVALID_ARGUMENT'],
])('a failure is one line with its code and one with the next step: %j', async (args, code) => {
  const text = await cli(...args)
  expect(text.exitCode).toBe(1)
  expect(text.stdout).toBe('')
  expect(text.stderr).toMatch(new RegExp(`^error ${code}: [^\n]+\nnext: [^\n]+\n$`))
  const json = await cli(args[0] ?? '', '--json', ...args.slice(1))
  expect(JSON.parse(json.stdout)).toMatchObject({ error: { code } })
})

test('an empty state directory lists nothing', async () => {
  expect(await cli('ls')).toMatchObject({ stdout: 'no sandboxes\n', exitCode: 0 })
  expect(await cli('ls', '--json')).toMatchObject({ stdout: '[]\n' })
})

test('tables align their columns', () => {
  expect(renderTable(['A', 'LONG'], [['wide cell', 'x'], ['y']])).toBe('A          LONG\nwide cell  x\ny')
})

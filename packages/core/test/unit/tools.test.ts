import { expect, test } from 'vitest'
import { DeltaboxError, type Sandbox } from '../../src/index.js'
import { agentTools, execTool, renderFailure, renderToolTables, ToolSession } from '../../src/tools/index.js'
import { shorten } from '../../src/tools/text.js'

test('a session opens its sandbox once, tries again after a failure, and ends only what it owns', async () => {
  let opened = 0
  let killed = 0
  const fake = { kill: () => Promise.resolve(void killed++) } as unknown as Sandbox
  const open = () => (opened++ === 0 ? Promise.reject(new Error('first')) : Promise.resolve(fake))
  const session = new ToolSession({ open, atClose: 'kill' })
  await session.close()
  await expect(session.at().sandbox()).rejects.toThrow('first')
  await Promise.all([session.at().sandbox(), session.at().sandbox()])
  expect(opened).toBe(2)
  await session.close()
  expect(killed).toBe(1)
  const kept = new ToolSession({ open: () => Promise.resolve(fake), atClose: 'keep' })
  await kept.at().sandbox()
  await kept.close()
  expect(killed).toBe(1)
})

test.each([
  [{}, /exactly one of command and commandId/],
  [{ command: 'x', commandId: 1 }, /exactly one/],
  [{ commandId: 1, cwd: '/' }, /belong to a new command/],
  [{ command: 'x', background: true, timeoutMs: 5 }, /no timeoutMs/],
  [{ command: 'x', waitMs: 5 }, /no waitMs/],
  [{ command: 5 }, /exec.command/],
])('exec refuses %j before it makes a sandbox', async (input, message) => {
  const session = new ToolSession({ open: () => Promise.reject(new Error('opened')), atClose: 'kill' })
  await expect(execTool.call(session, input)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await expect(execTool.call(session, input)).rejects.toThrow(message)
})

test('a failure’s text carries the code, the next step and what was printed', () => {
  const data = { stdout: 'so far\n', stderr: '' }
  const error = new DeltaboxError('TIMEOUT', { message: 'late', nextStep: 'wait longer', data })
  expect(renderFailure(error)).toEqual({
    text: 'TIMEOUT: late\nNext: wait longer\n[stdout]\nso far',
    data: { error: { code: 'TIMEOUT', message: 'late', nextStep: 'wait longer' } },
  })
  expect(renderFailure('odd').text).toBe('INTERNAL: odd')
})

test('long output is cut in its middle', () => {
  expect(shorten('short')).toBe('short')
  const cut = shorten('a'.repeat(10_000) + 'b'.repeat(20_000))
  expect(cut).toMatch(/^a{8000}\n\[… 6000 characters left out …\]\nb{16000}$/)
})

test('tables come from the schemas', () => {
  const tables = renderToolTables(agentTools)
  for (const { name } of agentTools) expect(tables).toContain(`### \`${name}\``)
  expect(tables).toContain('| `target` | string | yes | Id or name of a checkpoint. |')
})

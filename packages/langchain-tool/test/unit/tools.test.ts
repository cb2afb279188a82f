import { ToolMessage } from '@langchain/core/messages'
import { createAgent } from 'langchain'
import { expect, test } from 'vitest'
import { createDeltaboxTools } from '../../src/index.js'
import { ScriptedModel } from '../scripted-model.js'

test('offers the tools and makes nothing before a call', async () => {
  const tools = createDeltaboxTools({ workspace: '/nonexistent' })
  expect(tools.map(({ name }) => name)).toEqual([
    ...['exec', 'read_file', 'write_file', 'edit_file', 'list_files', 'change_files'],
    ...['checkpoint', 'rollback', 'list_checkpoints', 'fork', 'end_fork', 'keep_only'],
  ])
  await tools.close()
  await tools.close()
})

test('a failure is a message with status error; the agent’s run goes on', async () => {
  await using tools = createDeltaboxTools({ workspace: '/nonexistent' })
  const model = new ScriptedModel([() => ({ tool: 'checkpoint', args: {} }), () => 'understood'])
  const { messages } = await createAgent({ model, tools }).invoke({ messages: [{ role: 'user', content: 'go' }] })
  const failure = messages.find((message) => message instanceof ToolMessage)
  expect(failure).toMatchObject({
    status: 'error',
    name: 'checkpoint',
    artifact: { error: { nextStep: expect.any(String) as string } },
  })
  expect(failure?.text).toMatch(/^[A-Z_]+: .+\nNext: .+/)
  expect(messages.at(-1)?.text).toBe('understood')
})

test('without a model’s tool call the text comes back', async () => {
  const tools = createDeltaboxTools({ workspace: '/nonexistent' })
  expect(await tools.find(({ name }) => name === 'checkpoint')?.invoke({})).toMatch(/\nNext: /)
})

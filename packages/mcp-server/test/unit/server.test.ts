import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { InMemoryTransport } from '@modelcontextprotocol/sdk/inMemory.js'
import { DeltaboxError } from '@deltabox/core'
import { ToolSession } from '@deltabox/core/tools'
import { expect, test } from 'vitest'
import { createMcpServer } from '../../src/index.js'

async function connected(open: () => Promise<never>) {
  const server = createMcpServer(new ToolSession({ open, atClose: 'keep' }))
  const client = new Client({ name: 'test', version: '1' })
  const [ours, theirs] = InMemoryTransport.createLinkedPair()
  await Promise.all([server.connect(theirs), client.connect(ours)])
  return client
}

test('offers the tools with schemas and hints, without making a sandbox', async () => {
  const client = await connected(() => Promise.reject(new Error('opened')))
  const { tools } = await client.listTools()
  expect(tools.map(({ name }) => name)).toEqual([
    ...['exec', 'read_file', 'write_file', 'edit_file', 'list_files', 'change_files'],
    ...['checkpoint', 'rollback', 'list_checkpoints', 'fork', 'end_fork', 'keep_only'],
  ])
  for (const { description, inputSchema, outputSchema, annotations } of tools) {
    expect(description).not.toBe('')
    expect([inputSchema.type, outputSchema?.type]).toEqual(['object', 'object'])
    expect(annotations?.readOnlyHint).toBeTypeOf('boolean')
  }
  await client.close()
})

test('a failure is a result with isError and the next step', async () => {
  const client = await connected(() =>
    Promise.reject(new DeltaboxError('UNSUPPORTED_KERNEL', { message: 'too old', nextStep: 'run `deltabox doctor`' })),
  )
  const result = await client.callTool({ name: 'checkpoint', arguments: {} })
  expect(result).toMatchObject({
    isError: true,
    content: [{ type: 'text', text: 'UNSUPPORTED_KERNEL: too old\nNext: run `deltabox doctor`' }],
    _meta: { 'deltabox/error': { code: 'UNSUPPORTED_KERNEL' } },
  })
  const wrong = await client.callTool({ name: 'rollback', arguments: {} })
  expect(wrong.isError).toBe(true)
  await client.close()
})

import { fstatSync, openSync } from 'node:fs'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { describe, expect, test, vi } from 'vitest'
import { EngineClient } from '../../src/protocol/engine-client.js'
import type { Addon } from '../../src/protocol/native.js'
import {
  ClientFrameSchema,
  EngineFrameSchema,
  type ClientFrame,
  type EngineFrame,
} from '../../src/protocol/gen/deltabox_pb.js'

/** A client whose other end is this test. */
function fakeEngine() {
  const sent: ClientFrame[] = []
  let deliver: (payload: Buffer, fds: number[]) => void = () => undefined
  let end: (error?: string) => void = () => undefined
  const refs = vi.fn()
  class Channel {
    constructor(_fd: number, onFrame: typeof deliver, onClose: typeof end) {
      deliver = onFrame
      end = onClose
    }
    send(payload: Uint8Array) {
      sent.push(fromBinary(ClientFrameSchema, payload))
    }
    close() {}
    ref() {
      refs('ref')
    }
    unref() {
      refs('unref')
    }
  }
  const client = new EngineClient(0, { Channel } as unknown as Addon)
  const answer = (frame: Omit<Partial<EngineFrame>, '$typeName' | 'body'> & { body?: object }, fds: number[] = []) =>
    deliver(Buffer.from(toBinary(EngineFrameSchema, create(EngineFrameSchema, frame as never))), fds)
  const isClosed = (fd: number) => {
    try {
      fstatSync(fd)
      return false
    } catch {
      return true
    }
  }
  return {
    client,
    sent,
    answer,
    end: (error?: string) => end(error),
    refs,
    isClosed,
    garbage: () => deliver(Buffer.of(255), []),
  }
}

const info = { expect: 'info', accept: ({ value }: { value: { id: string } }) => value.id } as const

describe('EngineClient', () => {
  test('matches replies to requests by id, in any order, and follows the generation', async () => {
    const { client, sent, answer } = fakeEngine()
    const first = client.request({ case: 'info', value: {} }, info)
    const second = client.request({ case: 'info', value: {} }, { ...info, expectedGeneration: 7 })
    expect(sent.map(({ requestId }) => requestId)).toEqual([1n, 2n])
    expect(sent[1]?.expectedGeneration).toBe(7n)
    answer({ requestId: 2n, generation: 8n, body: { case: 'info', value: { id: 'two' } } })
    answer({ requestId: 1n, generation: 9n, body: { case: 'info', value: { id: 'one' } } })
    expect(await Promise.all([first, second])).toEqual(['one', 'two'])
    expect(client.generation).toBe(9n)
  })

  test('a failure becomes its error; another kind of reply is PROTOCOL and its descriptors are closed', async () => {
    const { client, answer, isClosed } = fakeEngine()
    const failed = client.request({ case: 'info', value: {} }, info)
    answer({ requestId: 1n, body: { case: 'failure', value: { code: 'BUSY', message: 'm', nextStep: 'n' } } })
    await expect(failed).rejects.toMatchObject({ code: 'BUSY', nextStep: 'n' })
    const strange = client.request({ case: 'info', value: {} }, info)
    const fd = openSync('/dev/null', 'r')
    answer({ requestId: 2n, body: { case: 'empty', value: {} } }, [fd])
    await expect(strange).rejects.toMatchObject({ code: 'PROTOCOL' })
    expect(isClosed(fd)).toBe(true)
  })

  test('abort ends the waiting; the late reply goes to onLate', async () => {
    const { client, answer } = fakeEngine()
    const abort = new AbortController()
    const onLate = vi.fn()
    const waiting = client.request({ case: 'info', value: {} }, { ...info, signal: abort.signal, onLate })
    abort.abort()
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' })
    answer({ requestId: 1n, body: { case: 'info', value: { id: 'late' } } })
    expect(onLate).toHaveBeenCalledWith('late')
    await expect(client.request({ case: 'info', value: {} }, { ...info, signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    })
  })

  test('the end of the connection rejects all that waits, once and for later calls too', async () => {
    const { client, end } = fakeEngine()
    const waiting = client.request({ case: 'info', value: {} }, info)
    const onLost = vi.fn()
    client.subscribe(1n, { onExit: () => undefined, onLost })
    end()
    await expect(waiting).rejects.toMatchObject({ code: 'ENGINE_LOST' })
    await expect(client.request({ case: 'info', value: {} }, info)).rejects.toMatchObject({ code: 'ENGINE_LOST' })
    expect(onLost).toHaveBeenCalledTimes(1)
    client.close()
    expect(onLost).toHaveBeenCalledTimes(1)
    await client.closed
    expect(client.isOpen).toBe(false)
  })

  test('a frame that is none ends the connection', async () => {
    const { client, garbage } = fakeEngine()
    const waiting = client.request({ case: 'info', value: {} }, info)
    garbage()
    await expect(waiting).rejects.toMatchObject({ code: 'ENGINE_LOST' })
  })

  test('a subscription made while accepting a reply misses nothing that follows it', async () => {
    const { client, answer } = fakeEngine()
    const onExit = vi.fn()
    const running = client.request(
      { case: 'run', value: {} },
      { expect: 'run', accept: ({ value }) => client.subscribe(value.commandId, { onExit, onLost: () => undefined }) },
    )
    answer({ requestId: 1n, body: { case: 'run', value: { commandId: 5n } } })
    answer({ body: { case: 'commandExited', value: { commandId: 5n, exitCode: 3 } } })
    expect(onExit).toHaveBeenCalledWith(expect.objectContaining({ exitCode: 3 }))
    const unsubscribe = await running
    unsubscribe()
    answer({ body: { case: 'commandExited', value: { commandId: 5n } } })
    expect(onExit).toHaveBeenCalledTimes(1)
  })

  test('descriptors that nobody asked for are closed; events of rollbacks are passed on', () => {
    const { client, answer, isClosed } = fakeEngine()
    const fd = openSync('/dev/null', 'r')
    answer({ requestId: 99n, body: { case: 'empty', value: {} } }, [fd])
    expect(isClosed(fd)).toBe(true)
    const listener = vi.fn()
    const stop = client.onRolledBack(listener)
    answer({ body: { case: 'rolledBack', value: { checkpointId: 'c1' } } })
    stop()
    answer({ body: { case: 'rolledBack', value: { checkpointId: 'c2' } } })
    expect(listener).toHaveBeenCalledTimes(1)
  })

  test('holds the process only while something waits', async () => {
    const { client, answer, refs } = fakeEngine()
    const waiting = client.request({ case: 'info', value: {} }, info)
    const release = client.hold()
    answer({ requestId: 1n, body: { case: 'info', value: {} } })
    await waiting
    release()
    release()
    expect(refs.mock.calls.flat()).toEqual(['unref', 'ref', 'unref'])
  })
})

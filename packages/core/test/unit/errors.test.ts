import { create } from '@bufbuild/protobuf'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { DeltaboxError, ERROR_CODES, isDeltaboxError, isErrorCode } from '../../src/index.js'
import { fromSystemError } from '../../src/errors/convert.js'
import { validate } from '../../src/errors/validate.js'
import { signalName, toError } from '../../src/protocol/failure.js'
import { FailureSchema } from '../../src/protocol/gen/deltabox_pb.js'

test('codes are unique and recognised', () => {
  expect(new Set(ERROR_CODES).size).toBe(ERROR_CODES.length)
  expect(isErrorCode('BUSY')).toBe(true)
  expect(isErrorCode('busy')).toBe(false)
})

test('an error keeps code, data, cause and next step, and narrows by code', () => {
  const cause = new Error('why')
  const error: unknown = new DeltaboxError('TIMEOUT', {
    message: 'late',
    nextStep: 'wait',
    data: { stdout: 'x' },
    cause,
  })
  expect(isDeltaboxError(error, 'BUSY')).toBe(false)
  if (!isDeltaboxError(error, 'TIMEOUT')) throw new Error('not narrowed')
  expect(error.data.stdout).toBe('x')
  expect(error.cause).toBe(cause)
  expect(JSON.parse(JSON.stringify(error))).toEqual({
    code: 'TIMEOUT',
    message: 'late',
    nextStep: 'wait',
    data: { stdout: 'x' },
  })
})

test.each([
  ['ENOENT', 'NOT_FOUND'],
  ['EACCES', 'PERMISSION_DENIED'],
  ['ENOSPC', 'NO_SPACE'],
  ['EPIPE', 'ENGINE_LOST'],
  ['EWEIRD', 'INTERNAL'],
])('errno %s becomes %s and is kept', (errno, code) => {
  const error = fromSystemError(Object.assign(new Error('failed'), { code: errno }), 'doing')
  expect(error).toMatchObject({ code, data: { osError: errno, operation: 'doing' } })
  expect(fromSystemError(error, 'again')).toBe(error)
})

test('a failure of the engine keeps all that it says', () => {
  const wire = create(FailureSchema, {
    code: 'BUSY',
    message: 'task 12 did not stop',
    nextStep: 'try again',
    osErrno: 28,
    operation: 'freeze',
    subject: 'pid 12',
    details: [{ pid: 12, kind: 'thread', reason: 'in vfork' }],
  })
  expect(toError(wire)).toMatchObject({
    code: 'BUSY',
    message: 'task 12 did not stop',
    nextStep: 'try again',
    data: {
      osError: 'ENOSPC',
      operation: 'freeze',
      subject: 'pid 12',
      details: [{ pid: 12, kind: 'thread', reason: 'in vfork' }],
    },
  })
  expect(toError(create(FailureSchema, { code: 'FROM_THE_FUTURE' }))).toMatchObject({ code: 'INTERNAL' })
})

test('validation names the field', () => {
  const schema = z.strictObject({ cwd: z.string().startsWith('/') })
  expect(() => validate(schema, { cwd: 'x' }, 'options')).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', nextStep: 'correct options.cwd' }),
  )
  expect(() => validate(schema, { cwd: '/', other: 1 }, 'options')).toThrow(/other/)
})

test('signals by name', () => {
  expect([signalName(0), signalName(9), signalName(64)]).toEqual([null, 'SIGKILL', 'SIG64'])
})

import type { z } from 'zod'
import { DeltaboxError } from './deltabox-error.js'

/**
 * Checks an argument against its schema.
 * @throws INVALID_ARGUMENT naming the field.
 */
export function validate<Schema extends z.ZodType>(schema: Schema, value: unknown, what: string): z.output<Schema> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue === undefined || issue.path.length === 0 ? what : `${what}.${issue.path.join('.')}`
  throw new DeltaboxError('INVALID_ARGUMENT', {
    message: `${field}: ${issue?.message ?? 'invalid'}`,
    nextStep: `correct ${field}`,
    cause: parsed.error,
  })
}

import { z } from 'zod'

/** Something not captured or not restored, as tools report it. */
export const noticeSchema = z.object({
  pid: z.int().describe('Inside the sandbox; 0 when no process is meant.'),
  kind: z.string(),
  reason: z.string(),
})

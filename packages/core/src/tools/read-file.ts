import type { ReadableStream } from 'node:stream/web'
import { z } from 'zod'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { defineTool } from './define-tool.js'

const DEFAULT_LINES = 2_000
const MAX_LINES = 20_000
/** About what a model reads with profit; the rest comes with the next call. */
const MAX_CHARS = 60_000

interface Lines {
  readonly text: string
  /** Of the last line that `text` holds something of; one less than the first when there is none. */
  readonly lastLine: number
  readonly more: boolean
  /** Whether the last line is longer than what could be shown. */
  readonly cut: boolean
}

/** Reads part of a text file. */
export const readFileTool = defineTool({
  name: 'read_file',
  title: 'Read a file of the sandbox',
  description:
    'Returns the text of a file as it is, at most 2,000 lines and 60,000 characters a call unless told otherwise; the ' +
    'answer says whether more follows and from which line. For files that are no text, or to search in files, use exec.',
  inputSchema: z.strictObject({
    path: z.string().min(1).describe('Absolute, or relative to the workspace.'),
    firstLine: z.int().min(1).optional().describe('Where to begin; 1 is the first line. Default: 1.'),
    lines: z.int().min(1).max(MAX_LINES).optional().describe(`At most so many lines. Default: ${DEFAULT_LINES}.`),
  }),
  outputSchema: z.object({
    path: z.string(),
    text: z.string(),
    firstLine: z.int(),
    lastLine: z.int().describe('One less than firstLine when there is nothing from there on.'),
    more: z.boolean().describe('Whether something follows.'),
  }),
  isReadOnly: true,
  isDestructive: false,
  run: async (place, { path, firstLine = 1, lines = DEFAULT_LINES }, { signal }) => {
    const { files } = await place.sandbox()
    const stream = await files.read(path, { format: 'stream', ...(signal === undefined ? {} : { signal }) })
    const { text, lastLine, more, cut } = await readLines(stream, path, firstLine, lines)
    const rest = cut
      ? `; the rest of line ${lastLine} is left out, the lines after it begin at firstLine ${lastLine + 1}`
      : more
        ? `; more follows from firstLine ${lastLine + 1}`
        : ''
    const head = lastLine < firstLine ? `nothing from line ${firstLine} on` : `lines ${firstLine} to ${lastLine}${rest}`
    return { text: `${path}: ${head}\n${text}`, data: { path, text, firstLine, lastLine, more } }
  },
})

async function readLines(
  stream: ReadableStream<Uint8Array>,
  path: string,
  firstLine: number,
  count: number,
): Promise<Lines> {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  let line = 1
  let text = ''
  let lineHasText = false
  // Leaving the loop early ends the stream.
  for await (const chunk of stream) {
    if (chunk.includes(0)) throw notText(path)
    const piece = decoder.decode(chunk, { stream: true })
    for (let start = 0; start < piece.length;) {
      if (line >= firstLine + count) return { text, lastLine: line - 1, more: true, cut: false }
      const newline = piece.indexOf('\n', start)
      const end = newline < 0 ? piece.length : newline + 1
      if (line >= firstLine) {
        const room = MAX_CHARS - text.length
        if (room <= 0 && !lineHasText) return { text, lastLine: line - 1, more: true, cut: false }
        text += piece.slice(start, Math.min(end, start + room))
        if (end - start > room) return { text, lastLine: line, more: true, cut: true }
        lineHasText = newline < 0
      }
      if (newline >= 0) line++
      start = end
    }
  }
  return { text, lastLine: Math.max(lineHasText ? line : line - 1, firstLine - 1), more: false, cut: false }
}

function notText(path: string): DeltaboxError<'INVALID_ARGUMENT'> {
  return new DeltaboxError('INVALID_ARGUMENT', {
    message: `${path} is no text file: it contains NUL bytes`,
    nextStep: 'look at it with exec, for example with `file` or `xxd | head`',
  })
}

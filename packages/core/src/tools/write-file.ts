import { z } from 'zod'
import { defineTool } from './define-tool.js'

/** Writes a whole file. */
export const writeFileTool = defineTool({
  name: 'write_file',
  title: 'Write a file of the sandbox',
  description:
    'Writes a text file, whole or not at all: what was there before is replaced, missing directories above it are made. ' +
    'To change a part of a file use edit_file.',
  inputSchema: z.strictObject({
    path: z.string().min(1).describe('Absolute, or relative to the workspace.'),
    content: z.string().describe('The whole text.'),
    executable: z
      .boolean()
      .optional()
      .describe('Make it a program (mode 755). Default: the mode of the file that is replaced, 644 for a new one.'),
  }),
  outputSchema: z.object({ path: z.string(), sizeBytes: z.int() }),
  isReadOnly: false,
  isDestructive: true,
  run: async (place, { path, content, executable = false }, { signal }) => {
    const { files } = await place.sandbox()
    await files.write(path, content, {
      ...(executable ? { mode: 0o755 } : {}),
      ...(signal === undefined ? {} : { signal }),
    })
    const sizeBytes = Buffer.byteLength(content)
    return { text: `wrote ${sizeBytes} bytes to ${path}`, data: { path, sizeBytes } }
  },
})

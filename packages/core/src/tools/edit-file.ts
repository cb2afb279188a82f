import { isUtf8 } from 'node:buffer'
import { z } from 'zod'
import { DeltaboxError } from '../errors/deltabox-error.js'
import type { Files } from '../files/files.js'
import { defineTool } from './define-tool.js'

/** Beyond it an edit by text is the wrong tool, and would hold all of the file in memory. */
const MAX_FILE_BYTES = 32 << 20

/** Replaces a piece of a text file. */
export const editFileTool = defineTool({
  name: 'edit_file',
  title: 'Edit a file of the sandbox',
  description:
    'Replaces oldText by newText in a text file and leaves everything else as it is. oldText has to be in the file ' +
    'exactly as given, blanks and line ends included, and only once (give more of its surroundings), unless replaceAll ' +
    'is set. An empty newText deletes.',
  inputSchema: z.strictObject({
    path: z.string().min(1).describe('Absolute, or relative to the workspace.'),
    oldText: z.string().min(1).describe('What to replace, exactly as it is in the file.'),
    newText: z.string().describe('What to put in its place.'),
    replaceAll: z.boolean().optional().describe('Replace every place, not the only one. Default: false.'),
  }),
  outputSchema: z.object({ path: z.string(), replaced: z.int().describe('How many places.') }),
  isReadOnly: false,
  isDestructive: true,
  run: async (place, { path, oldText, newText, replaceAll = false }, { signal }) => {
    const { files } = await place.sandbox()
    const look = signal === undefined ? {} : { signal }
    const pieces = (await readText(files, path, look)).split(oldText)
    const found = pieces.length - 1
    if (found === 0) throw wrong(`oldText is not in ${path}`, 'read the file, and give the text exactly as it is there')
    if (found > 1 && !replaceAll) {
      throw wrong(`oldText is in ${path} ${found} times`, 'give more of its surroundings, or set replaceAll')
    }
    await files.write(path, pieces.join(newText), look)
    return { text: `replaced ${found} ${found === 1 ? 'place' : 'places'} in ${path}`, data: { path, replaced: found } }
  },
})

async function readText(files: Files, path: string, look: { readonly signal?: AbortSignal }): Promise<string> {
  const { type, sizeBytes, symlinkTarget } = await files.getInfo(path, look)
  // Writing puts a file in the link's place, and what it led to would stay as it was.
  if (type === 'symlink') throw wrong(`${path} is a link to ${symlinkTarget}`, 'edit the file that it leads to')
  if (sizeBytes > MAX_FILE_BYTES) throw wrong(`${path} is larger than 32 MiB`, 'edit it with a program: use exec')
  const bytes = await files.read(path, { format: 'bytes', ...look })
  if (!isUtf8(bytes)) throw wrong(`${path} is not UTF-8 text`, 'edit it with a program: use exec')
  return Buffer.from(bytes).toString('utf8')
}

function wrong(message: string, nextStep: string): DeltaboxError<'INVALID_ARGUMENT'> {
  return new DeltaboxError('INVALID_ARGUMENT', { message, nextStep })
}

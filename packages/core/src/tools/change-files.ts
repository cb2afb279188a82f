import { z } from 'zod'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { defineTool } from './define-tool.js'

/** Makes directories, renames and removes. */
export const changeFilesTool = defineTool({
  name: 'change_files',
  title: 'Make a directory, rename or remove in the sandbox',
  description:
    'make_directory makes a directory and what is missing above it; rename gives a file or directory another name or ' +
    'place, and replaces a file that is there; remove removes a file, or a directory with all that is in it.',
  inputSchema: z.strictObject({
    action: z.enum(['make_directory', 'rename', 'remove']).describe('make_directory, rename or remove.'),
    path: z.string().min(1).describe('Absolute, or relative to the workspace.'),
    to: z.string().min(1).optional().describe('The new path; for rename, and only for it.'),
  }),
  outputSchema: z.object({
    path: z.string().describe('Where it is now, or was before it was removed.'),
    changed: z.boolean().describe('False for a directory that was there already.'),
  }),
  isReadOnly: false,
  isDestructive: true,
  run: async (place, { action, path, to }, { signal }) => {
    if ((action === 'rename') !== (to !== undefined)) {
      throw new DeltaboxError('INVALID_ARGUMENT', {
        message: action === 'rename' ? 'rename needs `to`' : `${action} has no \`to\``,
        nextStep: 'give `to` for rename, and only for it',
      })
    }
    const { files } = await place.sandbox()
    const options = signal === undefined ? {} : { signal }
    if (to !== undefined) {
      await files.rename(path, to, options)
      return { text: `renamed ${path} to ${to}`, data: { path: to, changed: true } }
    }
    if (action === 'remove') {
      await files.remove(path, options)
      return { text: `removed ${path}`, data: { path, changed: true } }
    }
    const changed = await files.makeDir(path, options)
    return { text: changed ? `made ${path}` : `${path} was there already`, data: { path, changed } }
  },
})

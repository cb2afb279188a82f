import { z } from 'zod'
import type { EntryInfo } from '../files/entry-info.js'
import { defineTool } from './define-tool.js'

const MAX_DEPTH = 20
/** What a model gets to see of a tree; more says less. */
const MAX_ENTRIES = 500

/** Lists a directory. */
export const listFilesTool = defineTool({
  name: 'list_files',
  title: 'List files of the sandbox',
  description:
    'The entries of a directory with type and size, hidden ones included; with depth also those of the directories below. ' +
    'At most 500 are shown. To search by name or contents use exec (find, grep).',
  inputSchema: z.strictObject({
    path: z.string().min(1).optional().describe('Absolute, or relative to the workspace. Default: the workspace.'),
    depth: z.int().min(1).max(MAX_DEPTH).optional().describe('How many levels of directories. Default: 1.'),
  }),
  outputSchema: z.object({
    entries: z.array(
      z.object({
        path: z.string(),
        type: z.string().describe('file, dir, symlink, fifo, socket or device.'),
        sizeBytes: z.number(),
        symlinkTarget: z.string().optional(),
      }),
    ),
    leftOut: z.int().describe('How many entries are not shown.'),
  }),
  isReadOnly: true,
  isDestructive: false,
  run: async (place, { path = '.', depth = 1 }, { signal }) => {
    const { files } = await place.sandbox()
    const all = await files.list(path, { depth, ...(signal === undefined ? {} : { signal }) })
    const shown = all.slice(0, MAX_ENTRIES)
    const leftOut = all.length - shown.length
    const note = leftOut === 0 ? [] : [`(${leftOut} more entries: list a directory below, or use exec)`]
    return {
      text: [all.length === 0 ? `${path} is empty` : '', ...shown.map(describe), ...note].filter(Boolean).join('\n'),
      data: {
        entries: shown.map(({ path, type, sizeBytes, symlinkTarget }) => ({
          ...{ path, type, sizeBytes },
          ...(symlinkTarget === undefined ? {} : { symlinkTarget }),
        })),
        leftOut,
      },
    }
  },
})

function describe({ path, type, sizeBytes, symlinkTarget }: EntryInfo): string {
  if (type === 'dir') return `${path}/`
  if (type === 'symlink') return `${path} -> ${symlinkTarget}`
  return type === 'file' ? `${path} (${sizeBytes} bytes)` : `${path} (${type})`
}

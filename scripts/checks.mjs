// The formatters and linters of both languages, as command lines from the repository's root.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { capture, rootDir } from './run.mjs'

const cppSources = () =>
  readdirSync(join(rootDir, 'packages/native/src'), { recursive: true })
    .filter((path) => /\.(cc|h|c)$/.test(path))
    .map((path) => join('packages/native/src', path))

/** Each check: its name, and the arguments that check and that repair (where it can). */
export function checks() {
  const bin = (name) => join('node_modules', '.bin', name)
  const all = [
    { name: 'eslint', command: bin('eslint'), check: ['.'], repair: ['--fix', '.'] },
    {
      name: 'prettier',
      command: bin('prettier'),
      check: ['--check', '--log-level=warn', '.'],
      repair: ['--write', '--log-level=warn', '.'],
    },
    { name: 'typecheck', command: bin('tsc'), check: ['-p', 'tsconfig.json', '--noEmit'] },
  ]
  // Debian's clang-format is no build dependency: who has it, uses it.
  if (capture('clang-format', ['--version']) !== undefined) {
    const sources = cppSources()
    all.push({
      name: 'clang-format',
      command: 'clang-format',
      check: ['--dry-run', '-Werror', ...sources],
      repair: ['-i', ...sources],
    })
  }
  return all
}

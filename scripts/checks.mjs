// The formatters and linters of both languages, as command lines from the repository's root.
import { existsSync, readdirSync } from 'node:fs'
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
  // clang-format is no build dependency: who has the version that the sources are formatted with, uses it (others lay
  // some constructs out differently).
  if (capture('clang-format', ['--version'])?.includes('version 14.')) {
    const sources = cppSources()
    all.push({
      name: 'clang-format',
      command: 'clang-format',
      check: ['--dry-run', '-Werror', ...sources],
      repair: ['-i', ...sources],
    })
  }
  const database = 'packages/native/build/release'
  if (
    capture('run-clang-tidy', ['--help']) !== undefined &&
    existsSync(join(rootDir, database, 'compile_commands.json'))
  ) {
    all.push({
      name: 'clang-tidy',
      command: 'run-clang-tidy',
      // The addon is left out: Node's own headers do not pass.
      check: ['-quiet', '-p', database, 'packages/native/src/(?!addon).*[.]cc$'],
    })
  }
  return all
}

// The workspace: the demo's pinned project, as a git repository, with the guests written in C.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const manifestDir = fileURLToPath(new URL('../packages/core/demo/', import.meta.url))
const guestSources = ['./gap-guest.c', './processes/guests/page-writer.c']

/** Makes it in a temporary directory; the caller removes it. */
export function makeWorkspace() {
  const parent = mkdtempSync(join(tmpdir(), 'deltabox-bench-'))
  const quiet = { cwd: parent, stdio: ['ignore', 'ignore', 'inherit'] }
  for (const file of ['package.json', 'package-lock.json']) copyFileSync(join(manifestDir, file), join(parent, file))
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], quiet)
  const dir = join(parent, 'qs')
  renameSync(join(parent, 'node_modules', 'qs'), dir)
  renameSync(join(parent, 'node_modules'), join(dir, 'node_modules'))
  for (const source of guestSources) {
    const path = fileURLToPath(new URL(source, import.meta.url))
    execFileSync('cc', ['-O2', '-o', join(dir, basename(source, '.c')), path], quiet)
  }
  const git = (...args) =>
    execFileSync('git', ['-C', dir, '-c', 'user.name=bench', '-c', 'user.email=bench@localhost', ...args], quiet)
  git('init', '-q')
  git('add', '-A')
  git('commit', '-q', '-m', 'the project')
  return { dir, remove: () => rmSync(parent, { recursive: true, force: true }) }
}

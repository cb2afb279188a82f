// Real work inside a sandbox beside the same work outside: warm, first after a checkpoint, second after it.
import { execFile, execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Sandbox } from '@deltabox/core'
import { summarise } from '../statistics.mjs'

const run = promisify(execFile)
const typescriptDir = fileURLToPath(new URL('../../node_modules/typescript/', import.meta.url))
const MAX_OUTPUT_BYTES = 16 << 20
const TYPESCRIPT_FILES = 300
const UNPACKED_FILES = 7000

/** Commands by name; each leaves the tree so that it can run again. */
const JOBS = {
  gitStatus: 'git -c safe.directory="*" status --short',
  npmTest: "node node_modules/tape/bin/tape 'test/**/*.js' > /dev/null",
  unpack: 'rm -rf unpacked && mkdir unpacked && tar -xf many.tar -C unpacked',
  typescriptBuild: 'rm -rf ts/out && node ts/typescript/lib/tsc.js -p ts',
}

export async function measureWork({ workspace, scratch, rounds }) {
  const project = join(scratch, 'work')
  makeProject(workspace, scratch, project)
  const sandbox = await Sandbox.create({ workspace: project })
  try {
    const results = {}
    for (const [name, command] of Object.entries(JOBS))
      results[name] = await measureJob(sandbox, project, command, rounds)
    return results
  } finally {
    await sandbox.kill()
  }
}

function makeProject(workspace, scratch, project) {
  cpSync(workspace, project, { recursive: true, verbatimSymlinks: true })
  const many = join(scratch, 'many')
  for (let dir = 0; dir < UNPACKED_FILES / 100; dir++) {
    mkdirSync(join(many, String(dir)), { recursive: true })
    for (let file = 0; file < 100; file++) writeFileSync(join(many, String(dir), `${file}.js`), 'x'.repeat(file * 200))
  }
  execFileSync('tar', ['-cf', join(project, 'many.tar'), '-C', many, '.'])
  const ts = join(project, 'ts')
  mkdirSync(join(ts, 'src'), { recursive: true })
  cpSync(typescriptDir, join(ts, 'typescript'), { recursive: true, dereference: true })
  for (let file = 0; file < TYPESCRIPT_FILES; file++) {
    const importing = file === 0 ? '' : `import { f${file - 1} } from './m${file - 1}.js'\n`
    const body = file === 0 ? 'n' : `f${file - 1}(n) + ${file}`
    writeFileSync(
      join(ts, 'src', `m${file}.ts`),
      `${importing}export function f${file}(n: number): number { return ${body} }\n`,
    )
  }
  const compilerOptions = {
    rootDir: 'src',
    outDir: 'out',
    strict: true,
    module: 'nodenext',
    target: 'es2022',
    types: [],
  }
  writeFileSync(join(ts, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['src'] }))
}

/** The same command everywhere, in turns, so that all meet the machine in the same moods. */
async function measureJob(sandbox, project, command, rounds) {
  const inside = async () => {
    const startMs = performance.now()
    const { exitCode, stderr } = await sandbox.commands.run(command)
    if (exitCode !== 0) throw new Error(`${command}: ${stderr}`)
    return performance.now() - startMs
  }
  const outside = async () => {
    const startMs = performance.now()
    await run('/bin/bash', ['-c', command], { cwd: project, maxBuffer: MAX_OUTPUT_BYTES })
    return performance.now() - startMs
  }
  await outside()
  await inside()
  const samples = { outsideMs: [], warmMs: [], firstMs: [], secondMs: [] }
  for (let round = 0; round < rounds; round++) {
    samples.outsideMs.push(await outside())
    samples.warmMs.push(await inside())
    await sandbox.commands.run(`echo ${round} > bench-work`)
    await sandbox.checkpoint()
    samples.firstMs.push(await inside())
    samples.secondMs.push(await inside())
  }
  return Object.fromEntries(Object.entries(samples).map(([name, values]) => [name, summarise(values)]))
}

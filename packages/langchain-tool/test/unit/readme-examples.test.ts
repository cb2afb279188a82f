// The examples in the READMEs compile, strictly, against the built packages. They are checked here since this package
// reaches all that they import.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { expect, test } from 'vitest'

const packageDir = fileURLToPath(new URL('../../', import.meta.url))
const rootDir = fileURLToPath(new URL('../../../../', import.meta.url))
const READMES = ['README.md', 'packages/core/README.md', 'packages/langchain-tool/README.md']

/** Every ```ts block, as a file of this package that exists in memory only: its path and its text. */
function examples(): Map<string, string> {
  const found = new Map<string, string>()
  for (const readme of READMES) {
    const text = readFileSync(`${rootDir}${readme}`, 'utf8')
    const blocks = [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)]
    blocks.forEach(([, code = ''], index) => {
      found.set(`${packageDir}example-${readme.replaceAll('/', '-')}-${index}.ts`, code)
    })
  }
  return found
}

/** What the compiler says of the files. */
function compile(files: ReadonlyMap<string, string>): string[] {
  const { config } = ts.readConfigFile(`${rootDir}tsconfig.base.json`, (path) => ts.sys.readFile(path)) as {
    config: object
  }
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, rootDir)
  options.noEmit = true
  const disk = ts.createCompilerHost(options)
  const host: ts.CompilerHost = {
    ...disk,
    fileExists: (path) => files.has(path) || disk.fileExists(path),
    readFile: (path) => files.get(path) ?? disk.readFile(path),
    getSourceFile: (path, language, ...rest) => {
      const text = files.get(path)
      return text === undefined
        ? disk.getSourceFile(path, language, ...rest)
        : ts.createSourceFile(path, text, language)
    },
  }
  return ts.getPreEmitDiagnostics(ts.createProgram([...files.keys()], options, host)).map((diagnostic) => {
    const line = diagnostic.file?.getLineAndCharacterOfPosition(diagnostic.start ?? 0).line ?? 0
    const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n')
    return `${diagnostic.file?.fileName.replace(packageDir, '') ?? ''}:${line + 1}: ${message}`
  })
}

test('every example of the READMEs compiles', { timeout: 120_000 }, () => {
  const files = examples()
  expect(files.size).toBeGreaterThanOrEqual(READMES.length)
  expect(compile(files)).toEqual([])
})

test('an example that does not compile is noticed', { timeout: 120_000 }, () => {
  const wrong = "import { Sandbox } from '@deltabox/core'\nawait Sandbox.create({ workspaces: '.' })\n"
  expect(compile(new Map([[`${packageDir}example-wrong.ts`, wrong]]))).toEqual([
    expect.stringContaining("'workspaces' does not exist") as string,
  ])
})

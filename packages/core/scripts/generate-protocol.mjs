// Generates the TypeScript types of the wire from the one schema, into src/protocol/gen (never committed).
import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const packageDir = dirname(dirname(fileURLToPath(import.meta.url)))
const schemaDir = join(packageDir, '..', 'native', 'src', 'protocol')
const outDir = join(packageDir, 'src', 'protocol', 'gen')

rmSync(outDir, { recursive: true, force: true })
mkdirSync(outDir, { recursive: true })
const { status, error } = spawnSync(
  'protoc',
  [
    `--plugin=protoc-gen-es=${join(packageDir, 'node_modules', '.bin', 'protoc-gen-es')}`,
    `--es_out=${outDir}`,
    ...['--es_opt=target=ts', '--es_opt=import_extension=js'],
    ...['-I', schemaDir, join(schemaDir, 'deltabox.proto')],
  ],
  { stdio: 'inherit' },
)
if (error) console.error(`protoc: ${error.message}; install the Debian package protobuf-compiler`)
process.exit(status ?? 1)

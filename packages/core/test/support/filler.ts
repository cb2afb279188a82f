// A program that fills memory, for tests of where checkpoints are.
import type { CommandHandle, Sandbox } from '../../src/index.js'
import { until } from './state.js'

/** Of memory that each `fill` writes. */
export const FILLED_BYTES = 8 << 20

/** Fills memory with random bytes that begin with a word, and tells what is there. Nothing else in it changes much. */
const FILLER = `
import os, sys, zlib
memory = bytearray(${FILLED_BYTES})
source = open('/dev/urandom', 'rb', buffering=0)
for line in sys.stdin:
    word = line.split()
    if word[0] == 'fill':
        assert source.readinto(memory) == len(memory)
        memory[:9] = word[1].encode().ljust(9)
    print(os.getpid(), memory[:9].decode().strip('\\0 '), zlib.crc32(memory), flush=True)
`

export async function startFiller(sandbox: Sandbox): Promise<CommandHandle> {
  await sandbox.files.write('/root/filler.py', FILLER)
  return sandbox.commands.run(['python3', '-u', '/root/filler.py'], { background: true })
}

/** Sends `fill WORD` or `tell`, and returns its answer. */
export async function tell(filler: CommandHandle, words: string): Promise<string> {
  const from = filler.stdout.length
  await filler.sendStdin(`${words}\n`)
  await until('an answer', () => filler.stdout.endsWith('\n') && filler.stdout.length > from)
  return filler.stdout.slice(from).trim()
}

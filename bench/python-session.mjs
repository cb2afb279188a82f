import { LineSession } from './line-session.mjs'

/**
 * Holds memory. "touch N" writes a byte to so many of its pages; "write FIRST N" to the pages FIRST to FIRST + N of an
 * order in which neighbours lie apart; "sum" reads all of them.
 */
const SCRIPT = `
import os, random, sys
memory = bytearray(os.urandom(1 << 20) * FOOTPRINT)
pages = len(memory) >> 12
STRIDE = 7919
for line in sys.stdin:
    words = line.split()
    if words[0] == 'touch':
        for page in random.sample(range(pages), int(words[1])):
            memory[page << 12] = (memory[page << 12] + 1) & 255
    elif words[0] == 'write':
        first, count = int(words[1]), int(words[2])
        for number in range(first, first + count):
            at = number * STRIDE % pages << 12
            memory[at] = (memory[at] + 1) & 255
    print(sum(memory[::4096]) if words[0] == 'sum' else 'ok', flush=True)
`

/** A Python session with so much memory of its own. */
export async function startSession(sandbox, footprintMb) {
  await sandbox.files.write('/root/session.py', SCRIPT.replace('FOOTPRINT', `${footprintMb}`))
  const session = await LineSession.start(sandbox, ['python3', '-u', '/root/session.py'])
  await session.ask('ok')
  return session
}

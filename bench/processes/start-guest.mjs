import { readFile } from 'node:fs/promises'
import { LineSession } from '../line-session.mjs'

/** Writes a program of `guests/` into the sandbox and starts it with its interpreter. */
export async function startGuest(sandbox, interpreter, name, args = []) {
  const inside = `/root/${name}`
  await sandbox.files.write(inside, await readFile(new URL(`guests/${name}`, import.meta.url), 'utf8'))
  return LineSession.start(sandbox, [...interpreter, inside, ...args.map(String)])
}

const PORT = 8123

/** A Node.js server that listens by the time this returns. */
export async function startHttpServer(sandbox) {
  const server = await startGuest(sandbox, ['node'], 'http-server.mjs', [PORT])
  await server.ask('listening?')
  return { server, connect: () => startGuest(sandbox, ['python3', '-u'], 'http-client.py', [PORT]) }
}

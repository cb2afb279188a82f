// Answers each request with its number, and with its number on its connection: a client that had to connect anew shows.
import { readFile } from 'node:fs'
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'

let requests = 0
const served = new WeakMap()
const server = createServer((request, response) => {
  const { socket } = request
  served.set(socket, (served.get(socket) ?? 0) + 1)
  requests += 1
  // From the thread pool, as servers do.
  readFile(import.meta.filename, () => response.end(`${requests} ${served.get(socket)}`))
})
// The measurement ends the connection, nothing else does.
server.keepAliveTimeout = 0
server.listen(Number(process.argv[2]), '127.0.0.1', () => {
  createInterface({ input: process.stdin }).on('line', () => console.log('ok'))
})

import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'
import { expectLifeAfterDeath, expectTenReturns, Session } from './session.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })

test('bash: variables, functions, directory, jobs, traps', async () => {
  await using sandbox = await create()
  const bash = await Session.start(sandbox, ['bash', '--norc'])
  const ask = (line: string, where = bash) => where.ask(`${line}\necho; echo '<end>'`)
  const pid = Number(await ask('echo $$'))
  await ask('list=(one two); f() { echo "f of $1"; }; mkdir -p deep/er; cd deep; sleep 100000 & sleep 100000 &')
  await ask('set -m; trap "echo told" USR1; exec 7<>file; echo kept >&7; shopt -s extglob; declare -A map=([k]=v)')
  const look = (where = bash) =>
    ask('echo ${list[*]} ${map[k]}; f x; pwd; jobs | wc -l; trap; kill -USR1 $$; cat file; shopt extglob', where)
  await expectTenReturns(sandbox, {
    survivors: [pid],
    look: () => look(),
    change: () =>
      ask(
        'list=(three); f() { echo other; }; cd er; kill %1; wait %1 2>&-; trap - USR1; exec 7>&-; echo >> ../file; trap : USR1',
      ),
  })
  await expectLifeAfterDeath(sandbox, async (where) => look(await bash.in(where)))
})

test('CPython: threads, an open transaction of SQLite, asyncio, generators, files', async () => {
  await using sandbox = await create()
  await sandbox.files.write(
    '/root/session.py',
    `
import asyncio, collections, hashlib, io, queue, random, sqlite3, sys, threading
jobs, done = queue.Queue(), []
def work():
    while True:
        job = jobs.get(); done.append(hashlib.sha256(job).hexdigest()[:8]); jobs.task_done()
for _ in range(3): threading.Thread(target=work, daemon=True).start()
base = sqlite3.connect('/workspace/base', isolation_level=None)
base.execute('create table t(n)'); base.execute('begin'); base.execute('insert into t values(1)')
def count():
    n = 0
    while True: n += 1; yield n
numbers, random_state, log = count(), random.Random(5), open('/workspace/log', 'w+')
loop = asyncio.new_event_loop()
ticks = []
async def tick():
    while True: await asyncio.sleep(0.001); ticks.append(1)
task = loop.create_task(tick())
def step(n):
    for k in range(n):
        jobs.put(b'%d' % k); next(numbers); random_state.random(); log.write('line\\n')
        base.execute('insert into t values(?)', (k,))
    jobs.join(); log.flush()
def look():
    log.seek(0)
    return (len(done), numbers.gi_frame.f_locals.get('n'), hash(random_state.getstate()), len(log.read()),
            base.execute('select count(*), sum(n) from t').fetchone(), base.in_transaction, threading.active_count())
def more_ticks():
    before = len(ticks); loop.run_until_complete(asyncio.sleep(0.01)); return len(ticks) > before
for line in sys.stdin:
    print(eval(line)); print('<end>', flush=True)
`,
  )
  const python = await Session.start(sandbox, ['python3', '-u', '/root/session.py'])
  const pid = Number(await python.ask('__import__("os").getpid()'))
  await python.ask('step(5)')
  const look = async (where = python) => `${await where.ask('look()')} ${await where.ask('more_ticks()')}`
  await expectTenReturns(sandbox, {
    survivors: [pid],
    look: () => look(),
    change: async () => {
      await python.ask('step(40)')
      await python.ask('base.execute("commit")')
    },
  })
  await expectLifeAfterDeath(sandbox, async (where) => look(await python.in(where)))
  const again = await python.in(sandbox)
  expect(await again.ask('base.execute("rollback") and base.execute("select count(*) from t").fetchone()')).toBe('(0,)')
})

test('Node.js: an http server under a client that keeps its connection', async () => {
  await using sandbox = await create()
  await sandbox.files.write(
    '/root/server.js',
    `
const http = require('http')
let count = 0, sockets = 0
const cache = new Map()
const server = http.createServer((request, response) => {
  count++
  cache.set(count, Buffer.alloc(10000, count))
  response.end(JSON.stringify({ pid: process.pid, count, cached: cache.size, sockets }))
})
server.on('connection', () => sockets++)
server.listen(8080, '127.0.0.1', () => console.log('ready'))
setInterval(() => cache.size, 5)
`,
  )
  await sandbox.files.write(
    '/root/client.js',
    `
const http = require('http')
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
let asked = 0
const get = () => new Promise((resolve, reject) => {
  asked++
  http.get({ port: 8080, agent }, (response) => {
    let text = ''
    response.on('data', (part) => (text += part)).on('end', () => resolve(text))
  }).on('error', reject)
})
require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  let last = ''
  for (let n = Number(line); n > 0; n--) last = await get()
  console.log(asked + ' ' + last + '\\n<end>')
})
`,
  )
  const server = await sandbox.commands.run(['node', '/root/server.js'], { background: true })
  await until('the server', () => server.stdout.includes('ready'), 30_000)
  const client = await Session.start(sandbox, ['node', '/root/client.js'])
  await client.ask('20')
  const seen: string[] = []
  const before = await client.ask('0')
  const checkpoint = await sandbox.checkpoint({ strict: true })
  for (let round = 1; round <= 10; round++) {
    seen.push(await client.ask('1'))
    await client.ask('30')
    expect((await sandbox.rollback(checkpoint, { strict: true })).notRestored, `round ${round}`).toEqual([])
    expect(await client.ask('0')).toBe(before)
  }
  // The same answer each time, over the one connection.
  expect(new Set(seen).size).toBe(1)
  expect(seen[0]).toMatch(/^21 \{"pid":\d+,"count":21,"cached":21,"sockets":1\}$/)
  expect(server.isRunning).toBe(true)
  await expectLifeAfterDeath(sandbox, async (where) => (await client.in(where)).ask('0'))
  expect(await (await client.in(sandbox)).ask('1')).toBe(seen[0])
})

test('Node.js at its prompt: closures, classes, promises on their way, timers, a worker thread', async () => {
  await using sandbox = await create()
  const source = "require('repl').start({ prompt: '', terminal: false, ignoreUndefined: true, useGlobal: true })"
  const node = await Session.start(sandbox, ['node', '-e', source])
  const ask = (line: string, where = node) => where.ask(`${line}\nconsole.log('<end>')`)
  const pid = Number(await ask('process.pid'))
  await ask(
    [
      'class Account { #sum = 0; add(n) { this.#sum += n; return this } get sum() { return this.#sum } }',
      'const account = new Account().add(5), seen = new Map([[account, Symbol("key")]]), counter = (() => { let n = 0; return () => ++n })()',
      'function* squares() { for (let n = 0; ; n++) yield n * n }; const numbers = squares(); let ticks = 0, settled = "waiting"',
      'const timer = setInterval(() => ticks++, 1); let settle; new Promise((resolve) => (settle = resolve)).then((how) => (settled = how))',
      "const { Worker } = require(\"worker_threads\"), worker = new Worker(\"let n = 0; require('worker_threads').parentPort.on('message', (m) => require('worker_threads').parentPort.postMessage(n += m))\", { eval: true })",
      'let heard = 0; worker.on("message", (m) => (heard = m)); worker.postMessage(3)',
    ].join('\n'),
  )
  const isHeard = (sum: number, where = node) =>
    until('the worker', async () => (await ask('heard', where)) === String(sum))
  await isHeard(3)
  const look = async (where = node) => {
    const before = Number(await ask('ticks', where))
    await until('ticks', async () => Number(await ask('ticks', where)) > before)
    return ask('console.log(account.sum, String(seen.get(account)), settled, heard)', where)
  }
  await expectTenReturns(sandbox, {
    survivors: [pid],
    look: () => look(),
    change: async () => {
      await ask('account.add(counter()); seen.clear(); settle("settled"); numbers.next(); worker.postMessage(4)')
      await isHeard(7)
      await ask(
        'clearInterval(timer); worker.terminate().then(() => setInterval(() => ticks++, 1)); globalThis.more = 1',
      )
    },
  })
  await expectLifeAfterDeath(sandbox, async (where) => look(await node.in(where)))
  const again = await node.in(sandbox)
  expect(await ask('console.log(counter(), numbers.next().value, typeof more)', again)).toBe('1 0 undefined')
  await ask('worker.postMessage(4)', again)
  await isHeard(7, again)
})

test('make -j4, stopped in its middle, is completed after each return', async () => {
  await using sandbox = await create()
  const names = Array.from({ length: 24 }, (_, n) => `part${n}`)
  await sandbox.files.write(
    'Makefile',
    [
      `all: ${names.map((name) => `${name}.o`).join(' ')}`,
      '\tcat $^ > all',
      '%.o: %.txt',
      '\tsleep 0.05; sed s/in/out/ $< > $@.new; sleep 0.05; mv $@.new $@; echo $@ >> order',
      '',
    ].join('\n'),
  )
  for (const name of names) await sandbox.files.write(`${name}.txt`, `in ${name}\n`)
  const expected = names.map((name) => `out ${name}\n`).join('')
  const made = async () => (await sandbox.files.list('.')).filter(({ name }) => name.endsWith('.o')).length
  const make = await sandbox.commands.run(['make', '-j4'], { background: true })
  await until('some of it is made', async () => (await made()) > 4)
  const checkpoint = await sandbox.checkpoint({ strict: true })
  const half = await made()
  expect(half).toBeLessThan(names.length)
  for (let round = 1; round <= 10; round++) {
    await until('all of it is made', () => sandbox.files.exists('all'), 30_000)
    await until('make has ended', async () => (await sandbox.getInfo()).tasks === 0, 30_000)
    expect(await sandbox.files.read('all'), `round ${round}`).toBe(expected)
    const order = (await sandbox.files.read('order')).trim().split('\n')
    expect([...order].sort(), `round ${round}: each once`).toEqual(names.map((name) => `${name}.o`).sort())
    expect((await sandbox.rollback(checkpoint, { redo: false })).notRestored, `round ${round}`).toEqual([])
    expect(await sandbox.files.exists('all')).toBe(false)
  }
  await make.kill().catch(() => undefined)
})

// Servers of data, with sessions open.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'
import { expectLifeAfterDeath, expectTenReturns, Session } from './session.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })

test('Redis: data, an open connection in the middle of MULTI, a listener on a path', async () => {
  await using sandbox = await create()
  // As its package names it.
  const server = 'exec -a redis-server /usr/bin/redis-check-rdb --port 6399 --unixsocket /tmp/redis --save "" --hz 100'
  const { commandId } = await sandbox.commands.run(server, { background: true })
  await until('it answers', async () =>
    (await sandbox.commands.run('redis-cli -s /tmp/redis ping')).stdout.includes('PONG'),
  )
  const [direct, held] = [
    await Session.start(sandbox, ['redis-cli', '-s', '/tmp/redis']),
    await Session.start(sandbox, ['redis-cli', '-p', '6399']),
  ]
  const ask = (where: Session, line: string) => where.ask(`${line}\necho <end>`)
  await ask(direct, 'set a 1\nrpush list x y z\nhset h k v\nset n 0')
  // QUEUED is what each answers now, the mark too.
  await held.ask('multi\nincr n\nincr n\nnonsense', "ERR unknown command 'nonsense', with args beginning with: ")
  const look = (where: Session) => ask(where, 'get a\nlrange list 0 -1\nhgetall h\nget n\ndbsize')
  const pid = (await sandbox.commands.list()).find((command) => command.commandId === commandId)!.pid
  await expectTenReturns(sandbox, {
    survivors: [pid],
    look: () => look(direct),
    change: () => ask(direct, 'flushall\nset other 1\nlpush list q\nconfig set maxmemory 100mb'),
  })
  await expectLifeAfterDeath(sandbox, async (where) => look(await direct.in(where)))
})

test('PostgreSQL: a session in an open transaction sees its rows, others do not', async () => {
  await using sandbox = await create()
  const bin = (await sandbox.commands.run('ls -d /usr/lib/postgresql/*/bin')).stdout.trim().split('\n').at(-1)!
  const isRoot = process.getuid?.() === 0
  const user = isRoot ? { user: 'nobody' } : {}
  await sandbox.commands.run('mkdir -p /var/lib/pg; chmod 777 /var/lib/pg')
  const made = await sandbox.commands.run(`cd /var/lib/pg && ${bin}/initdb -D data -A trust -U me --no-sync`, user)
  if (!isRoot) {
    // The one id that there is inside is root, as which it refuses to run (docs/limits.md).
    expect(made.stderr).toContain('cannot be run as root')
    return
  }
  expect(made.stderr + made.stdout).toContain('Success')
  const options = "-c unix_socket_directories=/tmp -c shared_buffers=16MB -c listen_addresses='' -c jit=off"
  const server = await sandbox.commands.run(`exec ${bin}/postgres -D /var/lib/pg/data ${options}`, {
    ...user,
    background: true,
  })
  const psql = [`${bin}/psql`, '-h', '/tmp', '-U', 'me', '-qAt', 'postgres']
  await until(
    'it answers',
    async () => (await sandbox.commands.run([...psql, '-c', 'select 1'])).exitCode === 0,
    30_000,
  )
  const ask = (where: Session, lines: string) => where.ask(`${lines}\n\\echo <end>`)
  const session = await Session.start(sandbox, psql)
  const other = await Session.start(sandbox, psql)
  await ask(
    session,
    "create table t(n int, text text); insert into t select n, 'row ' || n from generate_series(1, 2000) n;",
  )
  await ask(session, 'begin; insert into t values (9001), (9002); update t set text = null where n < 10; savepoint s;')
  const count = 'select count(*), sum(n), count(text) from t;'
  const look = async (in_: Session, out: Session) => `${await ask(in_, count)} beside ${await ask(out, count)}`
  await expectTenReturns(sandbox, {
    survivors: [server.pid],
    look: () => look(session, other),
    change: async () => {
      await ask(session, 'rollback to s; delete from t where n < 500; commit;')
      await ask(other, 'create index on t(n); vacuum t; checkpoint;')
    },
  })
  expect(await look(session, other)).toBe('2002|2019003|1991 beside 2000|2001000|2000')
  await expectLifeAfterDeath(sandbox, async (where) => look(await session.in(where), await other.in(where)))
  const again = await session.in(sandbox)
  await ask(again, 'commit;')
  expect(await ask(await other.in(sandbox), count)).toBe('2002|2019003|1991')
}, 180_000)

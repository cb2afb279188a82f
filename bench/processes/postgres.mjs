// PostgreSQL with ten connections, of which one is in a transaction and writes before each checkpoint.
import { withSandbox } from '../with-sandbox.mjs'
import { measureCheckpoints, measureRollbacks } from './rounds.mjs'
import { startGuest } from './start-guest.mjs'

const BACKENDS = 10
const DATA = '/var/lib/pg'
const START_TIMEOUT_MS = 30_000
const OPTIONS = [
  'unix_socket_directories=/tmp',
  'shared_buffers=16MB',
  "listen_addresses=''",
  'jit=off',
  // Its workers come and go: the lower limits are those of the processes that are there at the beginning.
  'autovacuum=off',
]

export async function measurePostgres({ workspace, rounds }) {
  return withSandbox({ workspace }, async (sandbox) => {
    await startServer(sandbox)
    const session = await startGuest(sandbox, ['python3', '-u'], 'postgres-clients.py', [
      '/tmp/.s.PGSQL.5432',
      BACKENDS,
    ])
    const change = () => session.ask('insert into written select generate_series(1, 100)')
    await change()
    return {
      backends: BACKENDS,
      checkpoint: await measureCheckpoints(sandbox, { change, rounds }),
      rollback: await measureRollbacks(sandbox, { change, rounds, redo: false }),
    }
  })
}

async function startServer(sandbox) {
  const { stdout } = await sandbox.commands.run('ls -d /usr/lib/postgresql/*/bin')
  const bin = stdout.trim().split('\n').at(-1)
  if (bin === '') throw new Error('PostgreSQL is not installed')
  // It refuses to run as root, and that is the one id that an ordinary user's sandbox has.
  const user = process.getuid() === 0 ? { user: 'nobody' } : {}
  await sandbox.commands.run(`mkdir -p ${DATA}; chmod 777 ${DATA}`)
  const made = await sandbox.commands.run(`cd ${DATA} && ${bin}/initdb -D data -A trust -U me --no-sync`, user)
  if (made.exitCode !== 0) throw new Error(made.stderr.trim())
  const options = OPTIONS.map((option) => `-c ${option}`).join(' ')
  await sandbox.commands.run(`exec ${bin}/postgres -D ${DATA}/data ${options}`, { ...user, background: true })
  const endMs = performance.now() + START_TIMEOUT_MS
  while ((await sandbox.commands.run(`${bin}/pg_isready -q -h /tmp`)).exitCode !== 0) {
    if (performance.now() > endMs) throw new Error('PostgreSQL does not answer')
  }
}

// An HTTP server of Node.js with a connection from inside that stays open; each change is one request.
import { withSandbox } from '../with-sandbox.mjs'
import { measureCheckpoints, measureRollbacks } from './rounds.mjs'
import { startHttpServer } from './start-guest.mjs'

export async function measureNodeServer({ workspace, rounds }) {
  return withSandbox({ workspace }, async (sandbox) => {
    const { connect } = await startHttpServer(sandbox)
    const client = await connect()
    const request = () => client.ask('get')
    const checkpoint = await measureCheckpoints(sandbox, { change: request, rounds, switchesVolume: false })
    const before = await request()
    const rollback = await measureRollbacks(sandbox, {
      rounds,
      redo: false,
      switchesVolume: false,
      change: async () => {
        expectNext(await request(), before, 1)
        expectNext(await request(), before, 2)
      },
    })
    return { threadsOfServer: await threadsOfServer(sandbox), checkpoint, rollback }
  })
}

/** The server's count and the connection's: both go back, and neither client nor server notices. */
function expectNext(answer, before, by) {
  const expected = before.split(' ').map((count) => Number(count) + by)
  if (answer !== expected.join(' ')) throw new Error(`the server answered ${answer} instead of ${expected.join(' ')}`)
}

async function threadsOfServer(sandbox) {
  const { stdout } = await sandbox.commands.run('ls /proc/$(pgrep -f "^node .*http-server")/task | wc -l')
  return Number(stdout)
}

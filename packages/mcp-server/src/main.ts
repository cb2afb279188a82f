import { Command, Option } from 'commander'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { createMcpServer } from './server.js'
import { openSession, type ServerOptions } from './session.js'

const options = new Command('deltabox-mcp')
  .description('MCP server over stdio: exec, checkpoint, rollback and list_checkpoints in one sandbox')
  .addOption(new Option('--workspace <dir>', 'directory that the sandbox sees as its workspace (default: .)'))
  .addOption(new Option('--sandbox <id>', 'attach to this running sandbox instead').conflicts('workspace'))
  .parse()
  .opts<ServerOptions>()

const session = openSession(options)
const server = createMcpServer(session)

let ending: Promise<void> | undefined
function end(exitCode: number): void {
  ending ??= (async () => {
    try {
      await server.close()
      await session.close()
    } catch (error) {
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
      exitCode = 1
    }
    process.exit(exitCode)
  })()
}

// A client that goes away closes our stdin; one that is in a hurry sends SIGTERM.
process.stdin.once('end', () => end(0))
process.stdin.once('close', () => end(0))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => end(0))

await server.connect(new StdioServerTransport())

import { Command, Option } from 'commander'
import { createFlags, isDeltaboxError } from '@deltabox/core'
import type { ToolSession } from '@deltabox/core/tools'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { createMcpServer } from './server.js'
import { openSession, type ServerOptions } from './session.js'

const program = new Command('deltabox-mcp').description(
  'MCP server over stdio: commands, files, checkpoint, rollback and forks of one sandbox',
)
const flags = createFlags.map(({ name, argument = '', description, repeatable = false }) => {
  const option = new Option(`${name} ${argument}`.trim(), description)
  return repeatable ? option.argParser((value, all: string[] = []) => [...all, value]) : option
})
for (const option of flags) program.addOption(option)
program.addOption(
  new Option('--sandbox <id>', 'attach to this running sandbox instead').conflicts(
    flags.map((option) => option.attributeName()),
  ),
)

const session = openOrExplain(program.parse().opts<ServerOptions>())
const server = createMcpServer(session)

function openOrExplain(options: ServerOptions): ToolSession {
  try {
    return openSession(options)
  } catch (error) {
    if (!isDeltaboxError(error)) throw error
    return program.error(`error ${error.code}: ${error.message}\nnext: ${error.nextStep}`)
  }
}

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

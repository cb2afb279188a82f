import type { Command } from 'commander'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'
import { withSandbox } from '../with-sandbox.js'

interface ForwardFlags extends JsonOption {
  readonly hostPort: string
  readonly host: string
}

export function registerForward(program: Command, context: CliContext): void {
  program
    .command('forward')
    .description('reach a server inside a sandbox from the host, until Ctrl-C')
    .argument('<id>', 'sandbox id')
    .argument('<port>', 'port of the server inside')
    .option('--host-port <port>', 'port on the host; 0: any free one', '0')
    .option('--host <address>', 'address on the host', '127.0.0.1')
    .addOption(jsonOption())
    .action(
      action(context, async (id: string, port: string, flags: ForwardFlags) => {
        await withSandbox(context, id, async (sandbox) => {
          const { interrupted: signal } = context
          const forward = await sandbox.ports.forward(Number(port), {
            hostPort: Number(flags.hostPort),
            host: flags.host,
            signal,
          })
          print(context, flags, { port: forward.port, url: forward.url }, forward.url)
          await forward.closed
        })
      }),
    )
}

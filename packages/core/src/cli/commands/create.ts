import type { Command } from 'commander'
import { DeltaboxError } from '../../errors/deltabox-error.js'
import type { Limits } from '../../limits/options.js'
import type { NetworkOption } from '../../network/options.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'

interface CreateFlags extends JsonOption {
  readonly workspace: string
  readonly name?: string
  readonly idleTimeoutMs?: string
  readonly network: string
  readonly allow: readonly string[]
  readonly rootfs: string
  readonly memoryBytes?: string
  readonly cpus?: string
  readonly processes?: string
  readonly openFiles?: string
}

export function registerCreate(program: Command, context: CliContext): void {
  program
    .command('create')
    .description('make a sandbox and print its id; it runs until `deltabox rm`')
    .option('--workspace <dir>', 'directory that the sandbox sees as its workspace', '.')
    .option('--name <name>', 'shown by `deltabox ls`')
    .option('--idle-timeout-ms <ms>', 'end the sandbox after this long without use (default: never)')
    .option('--network <mode>', 'none (loopback only), host, or none with --allow', 'none')
    .option('--allow <host:port>', 'let this host out (repeatable)', (value, all: string[]) => [...all, value], [])
    .option('--rootfs <dir>', 'host, or the directory of an unpacked image', 'host')
    .option('--memory-bytes <n>', 'limit of memory')
    .option('--cpus <n>', 'limit of processor time, in processors')
    .option('--processes <n>', 'limit of processes and threads')
    .option('--open-files <n>', 'limit of descriptors of each process')
    .addOption(jsonOption())
    .action(
      action(context, async (flags: CreateFlags) => {
        const sandbox = await Sandbox.create({
          workspace: flags.workspace,
          ...(flags.name === undefined ? {} : { metadata: { name: flags.name } }),
          ...(flags.idleTimeoutMs === undefined ? {} : { idleTimeoutMs: Number(flags.idleTimeoutMs) }),
          network: toNetwork(flags),
          rootfs: flags.rootfs,
          limits: toLimits(flags),
          signal: context.interrupted,
        })
        const { warnings } = await sandbox.getInfo()
        sandbox.disconnect()
        for (const warning of warnings) context.stderr(`warning: ${warning}\n`)
        print(context, flags, { id: sandbox.id, warnings }, sandbox.id)
      }),
    )
}

function toNetwork({ network, allow }: CreateFlags): NetworkOption {
  if (allow.length > 0 && network !== 'none') {
    throw new DeltaboxError('INVALID_ARGUMENT', {
      message: `--allow and --network ${network} contradict each other`,
      nextStep: 'give one of the two',
    })
  }
  if (allow.length > 0) return { allow }
  // The schema of the option says what else is wrong with it.
  return network as NetworkOption
}

function toLimits({ memoryBytes, cpus, processes, openFiles }: CreateFlags): Limits {
  return {
    ...(memoryBytes === undefined ? {} : { memoryBytes: Number(memoryBytes) }),
    ...(cpus === undefined ? {} : { cpus: Number(cpus) }),
    ...(processes === undefined ? {} : { processes: Number(processes) }),
    ...(openFiles === undefined ? {} : { openFiles: Number(openFiles) }),
  }
}

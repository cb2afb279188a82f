import { Option, type Command } from 'commander'
import { createFlags, createOptionsFromFlags, type CreateFlagValues } from '../../sandbox/create-flags.js'
import { Sandbox } from '../../sandbox/sandbox.js'
import { action, jsonOption, print, type CliContext, type JsonOption } from '../context.js'

export function registerCreate(program: Command, context: CliContext): void {
  const command = program.command('create').description('make a sandbox and print its id; it runs until `deltabox rm`')
  for (const { name, argument = '', description, repeatable = false } of createFlags) {
    const option = new Option(`${name} ${argument}`.trim(), description)
    if (repeatable) option.argParser((value, all: string[] = []) => [...all, value])
    command.addOption(option)
  }
  command.addOption(jsonOption()).action(
    action(context, async (flags: CreateFlagValues & JsonOption) => {
      const sandbox = await Sandbox.create({ ...createOptionsFromFlags(flags), signal: context.interrupted })
      const { warnings } = await sandbox.getInfo()
      sandbox.disconnect()
      for (const warning of warnings) context.stderr(`warning: ${warning}\n`)
      print(context, flags, { id: sandbox.id, warnings }, sandbox.id)
    }),
  )
}

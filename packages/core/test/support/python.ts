import { expect } from 'vitest'
import type { CommandHandle, Sandbox } from '../../src/index.js'
import { until } from './state.js'

/** A Python program that prints "ready" and then obeys lines: each is executed, and what it prints comes back. */
export async function startPython(sandbox: Sandbox, prepare: string): Promise<PythonSession> {
  const source = `
import sys
${prepare}
print('ready', flush=True)
for line in sys.stdin:
    try:
        exec(line)
    except Exception as error:
        print(type(error).__name__, error)
    print('done', flush=True)
`
  const command = await sandbox.commands.run(['python3', '-c', source], { background: true })
  await until('the program', () => command.stdout.includes('ready\n') || !command.isRunning)
  expect(command.stderr).toBe('')
  return new PythonSession(command)
}

export class PythonSession {
  constructor(readonly command: CommandHandle) {}

  async run(line: string): Promise<string> {
    const from = this.command.stdout.length
    await this.command.sendStdin(`${line}\n`)
    await until(line, () => this.command.stdout.slice(from).endsWith('done\n') || !this.command.isRunning)
    return this.command.stdout
      .slice(from)
      .replace(/done\n$/, '')
      .trim()
  }
}

import type { CommandHandle } from '../commands/command-handle.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import type { Sandbox } from '../sandbox/sandbox.js'

const ANSWER_TIMEOUT_MS = 30_000

/** A Python interpreter that stays alive in the background and is asked line by line. */
export interface PythonSession {
  /** Inside the sandbox. */
  readonly pid: number
  /** Runs statements; each line is one. */
  tell(...lines: string[]): Promise<void>
  /** The text of an expression's value. @throws TIMEOUT */
  ask(expression: string): Promise<string>
}

/** Starts one. */
export async function startPython(sandbox: Sandbox): Promise<PythonSession> {
  let received = ''
  let wake = (): void => undefined
  let questions = 0
  const handle: CommandHandle = await sandbox.commands.run(['python3', '-i', '-q', '-u'], {
    background: true,
    label: 'python session',
    onStdout: (text) => {
      received += text
      wake()
    },
  })
  const tell = (...lines: string[]) => handle.sendStdin(lines.map((line) => `${line}\n`).join(''))
  return {
    pid: handle.pid,
    tell,
    ask: async (expression) => {
      // The marks come from here, so an answer is recognised whatever the session's own state is after a rollback.
      const mark = `answer-${++questions}:`
      const answer = new RegExp(`${mark}(.*)\n`)
      await tell(`print(${JSON.stringify(mark)} + str(${expression}))`)
      const deadlineMs = performance.now() + ANSWER_TIMEOUT_MS
      for (let match = answer.exec(received); ; match = answer.exec(received)) {
        if (match?.[1] !== undefined) return match[1]
        const leftMs = deadlineMs - performance.now()
        if (leftMs <= 0 || !handle.isRunning) throw noAnswer(expression, handle)
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, leftMs)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    },
  }
}

function noAnswer(expression: string, handle: CommandHandle): DeltaboxError<'TIMEOUT'> {
  return new DeltaboxError('TIMEOUT', {
    message: `the Python session did not answer ${expression}`,
    nextStep: 'look at what it printed on stderr',
    data: { stderr: handle.stderr, stdout: handle.stdout },
  })
}

import { once } from 'node:events'
import { runCli } from './program.js'

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']

const interrupt = new AbortController()
let listener: ((signal: NodeJS.Signals) => void) | undefined
for (const signal of SIGNALS) {
  // The first one ends what is under way; a second one ends this program, by the default of the signal.
  process.once(signal, () => {
    if (listener === undefined) interrupt.abort(signal)
    else {
      listener(signal)
      listener = undefined
      process.once(signal, () => interrupt.abort(signal))
    }
  })
}

// The reader of our output may go away (`deltabox ls | head -1`).
process.stdout.on('error', () => process.exit(0))

async function write(stream: NodeJS.WriteStream, bytes: Uint8Array): Promise<void> {
  if (!stream.write(bytes)) await once(stream, 'drain')
}

await runCli(process.argv.slice(2), {
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
  stdoutBytes: (bytes) => write(process.stdout, bytes),
  stderrBytes: (bytes) => write(process.stderr, bytes),
  setExitCode: (code) => (process.exitCode = code),
  interrupted: interrupt.signal,
  onSignal: (taken) => {
    listener = taken
    return () => (listener = undefined)
  },
})

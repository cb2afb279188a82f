import { runCli } from './program.js'

const interrupt = new AbortController()
// The first Ctrl-C ends what runs inside the sandbox; a second one ends this program.
process.once('SIGINT', () => interrupt.abort())
process.once('SIGTERM', () => interrupt.abort())

// The reader of our output may go away (`deltabox ls | head -1`).
process.stdout.on('error', () => process.exit(0))

await runCli(process.argv.slice(2), {
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
  setExitCode: (code) => (process.exitCode = code),
  interrupted: interrupt.signal,
})

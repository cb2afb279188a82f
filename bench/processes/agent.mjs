// How much of an agent's session goes to keeping its state: a scripted one with a checkpoint after each step and a
// rollback whenever an attempt has failed, beside the same steps without any of that.
import { LineSession } from '../line-session.mjs'
import { quantile, summarise } from '../statistics.mjs'
import { withSandbox } from '../with-sandbox.mjs'

const ATTEMPTS = 5
const GIT = 'git -c safe.directory="*" -c user.name=agent -c user.email=agent@localhost'

/** The steps of one attempt: they can be done again, whether it was taken back or not. */
const attempt = (number) => [
  { run: `${GIT} status --short && grep -rn "arrayFormat" lib | wc -l` },
  { run: `sed -i '1i // attempt ${number}' lib/parse.js && echo "attempt ${number}" >> NOTES.md` },
  {
    python: `sources[${number}] = [open(f).read() for f in glob.glob("**/*.js", recursive=True)]; print(len(sources))`,
  },
  {
    run: `node -e 'const qs = require("./"); let s = ""; for (let i = 0; i < 20000; i++) s = qs.stringify(qs.parse("a[b]=c&d=" + i)); require("fs").writeFileSync("report.txt", s)'`,
  },
  { run: `node node_modules/tape/bin/tape 'test/**/*.js' > test-output.txt` },
  { run: `${GIT} diff --stat && ${GIT} commit -q -a -m "attempt ${number}"` },
]
// From the end of a failed attempt back to before its edit.
const STEPS_TAKEN_BACK = 5
const STEPS = ATTEMPTS * attempt(0).length

/** `latencyMs`: how long the model takes for each step, where that is counted. */
export async function measureAgent({ workspace, sessions, latencyMs }) {
  const plain = []
  const kept = []
  for (let session = 0; session < sessions; session++) {
    plain.push(await playSession({ workspace, keepsState: false, latencyMs: 0 }))
    kept.push(await playSession({ workspace, keepsState: true, latencyMs: 0 }))
  }
  // Once each: most of these is waiting, which is the same every time.
  const plainWaiting = await playSession({ workspace, keepsState: false, latencyMs })
  const keptWaiting = await playSession({ workspace, keepsState: true, latencyMs })
  return {
    steps: STEPS,
    rollbacks: kept[0].rollbacks,
    latencyMs,
    withoutLatency: compare(plain, kept),
    withLatency: compare([plainWaiting], [keptWaiting]),
  }
}

function compare(plain, kept) {
  const total = ({ totalMs }) => totalMs
  return {
    plainMs: summarise(plain.map(total)),
    keptMs: summarise(kept.map(total)),
    longer: median(kept, total) / median(plain, total) - 1,
    inCalls: median(kept, ({ stateMs, totalMs }) => stateMs / totalMs),
    // The first look at a volume that was switched finds no directory in memory; the engine works on behind its reply.
    stepsLonger: median(kept, ({ stepsMs }) => stepsMs) / median(plain, ({ stepsMs }) => stepsMs) - 1,
  }
}

const median = (sessions, pick) => quantile(sessions.map(pick), 0.5)

async function playSession({ workspace, keepsState, latencyMs }) {
  return withSandbox({ workspace }, async (sandbox) => {
    const python = await LineSession.start(sandbox, ['python3', '-i', '-q', '-u'])
    await python.ask('import glob; sources = {}; print("ready")')
    // What a sandbox does once is no step: the first look at all files, the first copy of all memory.
    await doStep(sandbox, python, attempt(0)[0])
    const checkpoints = keepsState ? [await sandbox.checkpoint()] : []
    let stepsMs = 0
    let stateMs = 0
    let rollbacks = 0
    const keepState = async (action) => {
      if (!keepsState) return
      const startMs = performance.now()
      await action()
      stateMs += performance.now() - startMs
    }
    const startMs = performance.now()
    for (let number = 1; number <= ATTEMPTS; number++) {
      for (const step of attempt(number)) {
        if (latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, latencyMs))
        const stepStartMs = performance.now()
        await doStep(sandbox, python, step)
        stepsMs += performance.now() - stepStartMs
        await keepState(async () => checkpoints.push(await sandbox.checkpoint()))
      }
      await keepState(async () => {
        await sandbox.rollback(checkpoints.at(-1 - STEPS_TAKEN_BACK))
        rollbacks++
      })
    }
    return { totalMs: performance.now() - startMs, stepsMs, stateMs, rollbacks }
  })
}

async function doStep(sandbox, python, step) {
  if (step.python !== undefined) return python.ask(step.python)
  const { exitCode, stderr, stdout } = await sandbox.commands.run(step.run)
  if (exitCode !== 0) throw new Error(`${step.run}: ${stderr}${stdout}`)
}

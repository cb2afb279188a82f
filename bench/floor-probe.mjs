// The lower limits of a pause, measured by bare system calls on the sandbox's own processes.
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('../packages/native/build/release/bench/deltabox-floor', import.meta.url))
const MAX_TASKS = 1000 // a benchmark that starts more has gone wrong

/** Host pids of all processes inside, given the engine's: the children of its child, pid 1 of the sandbox. */
export function sandboxPids(enginePid) {
  const found = childrenOf(enginePid).flatMap(childrenOf)
  for (let index = 0; index < found.length && found.length < MAX_TASKS; index++) found.push(...childrenOf(found[index]))
  return found
}

function childrenOf(pid) {
  return readdirSync(`/proc/${pid}/task`).flatMap((tid) =>
    readFileSync(`/proc/${pid}/task/${tid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
  )
}

export class FloorProbe {
  #child
  #lines

  /** `volumes`: how many volumes a checkpoint switches. */
  constructor(volumes, pids) {
    this.#child = spawn(program, [volumes, ...pids].map(String), { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  /** One measurement of all floors, in microseconds, with the counts of what was measured. */
  async measure() {
    this.#child.stdin.write('measure\n')
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('the floor probe ended')
    const floors = JSON.parse(value)
    const { freezeUs, mappingsUs, scanUs, copyUs, switchUs, continueUs } = floors
    return { ...floors, sumUs: freezeUs + mappingsUs + scanUs + copyUs + switchUs + continueUs }
  }

  end() {
    this.#child.stdin.end()
  }
}

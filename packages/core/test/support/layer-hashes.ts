import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import type { Sandbox } from '../../src/index.js'

const program = fileURLToPath(new URL('./layer_hasher.py', import.meta.url))
const NAMES = /layers\/(\d+)\/upper/

/**
 * The first invariant of layers, seen from outside and without the engine: a sealed layer never changes. Which layers are
 * sealed is what the kernel says of the sandbox's mounts: those below an overlay.
 */
export class LayerHashes {
  #count = 0

  private constructor(
    private initPid: number,
    private readonly child: ChildProcessByStdio<Writable, Readable, null>,
    private readonly answers: AsyncIterator<string, undefined>,
  ) {}

  static async start(sandbox: Sandbox): Promise<LayerHashes> {
    const { initPid } = await sandbox.getInfo()
    const layersDir = join(process.env['DELTABOX_STATE_DIR'] ?? '', 'sandboxes', sandbox.id, 'store', 'layers')
    const asRoot = process.getuid?.() === 0 ? [] : ['unshare', '--user', '--map-root-user', '--']
    const [command = '', ...args] = [...asRoot, 'python3', program, layersDir]
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const hashes = new LayerHashes(initPid, child, createInterface({ input: child.stdout })[Symbol.asyncIterator]())
    await hashes.observe()
    return hashes
  }

  /** How many sealed layers were hashed so far. */
  get count(): number {
    return this.#count
  }

  /** To be called after everything that may seal. `initPid`: of the sandbox now, which may have been brought back. */
  async observe(initPid = this.initPid): Promise<void> {
    this.initPid = initPid
    await this.#ask({ sealed: this.#sealed() })
  }

  /** Hashes all sealed layers again and fails the test where one changed. */
  async verify(): Promise<void> {
    const problems = await this.#ask({ verify: true })
    expect(problems.join('\n'), 'sealed layers that changed').toBe('')
  }

  end(): void {
    this.child.stdin.end()
  }

  #sealed(): number[] {
    const sealed = new Set<number>()
    for (const line of this.#mounts().split('\n')) {
      for (const option of line.split(' ').at(-1)?.split(',') ?? []) {
        const number = option.startsWith('lowerdir+=') ? NAMES.exec(option)?.[1] : undefined
        if (number !== undefined) sealed.add(Number(number))
      }
    }
    return [...sealed]
  }

  #mounts(): string {
    try {
      return readFileSync(`/proc/${this.initPid}/mountinfo`, 'utf8')
    } catch {
      return '' // it has just ended
    }
  }

  async #ask(request: object): Promise<string[]> {
    this.child.stdin.write(`${JSON.stringify(request)}\n`)
    const answer = await this.answers.next()
    if (answer.done === true) throw new Error('the hasher of layers ended')
    const { count, problems } = JSON.parse(answer.value) as { count: number; problems: string[] }
    this.#count = count
    return problems
  }
}

/** A statement of the demo and whether it held in this run. */
export interface Claim {
  readonly statement: string
  readonly holds: boolean
  /** What was seen. */
  readonly seen: string
}

/** Collects claims as they are checked and says each at once. */
export class Claims {
  readonly #all: Claim[] = []
  readonly #say: (line: string) => void

  constructor(say: (line: string) => void) {
    this.#say = say
  }

  get all(): readonly Claim[] {
    return this.#all
  }

  check(statement: string, holds: boolean, seen: string): void {
    this.#all.push({ statement, holds, seen })
    this.#say(`  ${holds ? 'ok' : 'NO'}  ${statement} (${seen})`)
  }
}

import { z } from 'zod'
import type { Checkpoint } from '../checkpoints/checkpoint.js'
import { DeltaboxError } from '../errors/deltabox-error.js'
import { validate } from '../errors/validate.js'

/** A checkpoint by object, id or name. */
export type CheckpointTarget = string | Pick<Checkpoint, 'id'>

const targetSchema = z.union([z.string().min(1, 'is empty').max(200), z.object({ id: z.string().min(1) })])

/** Of which sandbox each checkpoint object is. Copies of one are anybody's. */
const origins = new WeakMap<object, string>()

/** Which checkpoints the calls of one sandbox can mean. */
export class CheckpointTargets {
  readonly #sandboxId: string
  readonly #inherited: string | null | undefined

  /**
   * @param inherited the checkpoint that a fork began with and shares with its lender; null: there is none; undefined:
   * not known
   */
  constructor(sandboxId: string, inherited: string | null | undefined) {
    this.#sandboxId = sandboxId
    this.#inherited = inherited
  }

  /** Remembers whose it is. */
  own<Owned extends Checkpoint>(checkpoint: Owned): Owned {
    origins.set(checkpoint, this.#sandboxId)
    return checkpoint
  }

  /**
   * The id or name to send. Ids count in each sandbox from one on, so another's checkpoint would pass for one of ours.
   * @throws INVALID_ARGUMENT
   */
  idOf(target: CheckpointTarget): string {
    const checked = validate(targetSchema, target, 'target')
    const id = typeof checked === 'string' ? checked : checked.id
    const origin = typeof target === 'object' ? origins.get(target) : undefined
    const isForeign = origin !== undefined && origin !== this.#sandboxId
    if (isForeign && this.#inherited !== undefined && id !== this.#inherited) {
      throw new DeltaboxError('INVALID_ARGUMENT', {
        message: `checkpoint ${id} is one of sandbox ${origin}, not of ${this.#sandboxId}`,
        nextStep: 'name a checkpoint of this sandbox: listCheckpoints() has them',
      })
    }
    return id
  }
}

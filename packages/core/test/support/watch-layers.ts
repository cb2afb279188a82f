import { vi } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { LayerHashes } from './layer-hashes.js'

/** Looks at the layers of all sandboxes of this process after each of their checkpoints and rollbacks. */
export interface LayerWatch {
  /** Fails the test where a sealed layer changed. */
  verify(): Promise<void>
  end(): void
}

export function watchLayers(): LayerWatch {
  const watched = new Map<string, LayerHashes>()
  const look = async (sandbox: Sandbox) => {
    const hashes = watched.get(sandbox.id)
    if (hashes !== undefined) await hashes.observe((await sandbox.getInfo()).initPid)
    else watched.set(sandbox.id, await LayerHashes.start(sandbox))
  }
  const checkpoint = method('checkpoint')
  const rollback = method('rollback')
  const kill = method('kill')
  vi.spyOn(Sandbox.prototype, 'checkpoint').mockImplementation(async function (this: Sandbox, ...args) {
    const result = await checkpoint.apply(this, args)
    await look(this)
    return result
  })
  vi.spyOn(Sandbox.prototype, 'rollback').mockImplementation(async function (this: Sandbox, ...args) {
    const result = await rollback.apply(this, args)
    await look(this)
    return result
  })
  vi.spyOn(Sandbox.prototype, 'kill').mockImplementation(async function (this: Sandbox) {
    // Its layers go with it.
    const hashes = watched.get(this.id)
    await hashes?.verify()
    hashes?.end()
    watched.delete(this.id)
    return kill.apply(this)
  })
  return {
    async verify() {
      for (const hashes of watched.values()) await hashes.verify()
    },
    end() {
      vi.restoreAllMocks()
      for (const hashes of watched.values()) hashes.end()
    },
  }
}

const method = <Name extends 'checkpoint' | 'rollback' | 'kill'>(name: Name) =>
  Reflect.get(Sandbox.prototype, name) as Sandbox[Name]

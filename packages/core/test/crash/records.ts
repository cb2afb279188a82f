// Which layers the records of a store name, read without the engine: protobuf's wire format, and of it only what
// records.proto needs.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const HEADER_BYTES = 24
const STATE_VOLUMES = 5
const CHECKPOINT_STACKS = 9

type Field = readonly [number, number | Buffer]

function varint(data: Buffer, at: number): readonly [number, number] {
  let value = 0
  for (let factor = 1; ; factor *= 128) {
    const byte = data[at++]!
    value += (byte & 127) * factor
    if (byte < 128) return [value, at]
  }
}

function* fields(data: Buffer): Generator<Field> {
  for (let at = 0; at < data.length;) {
    let key: number
    ;[key, at] = varint(data, at)
    if ((key & 7) === 0) {
      let value: number
      ;[value, at] = varint(data, at)
      yield [key >> 3, value]
    } else if ((key & 7) === 2) {
      let length: number
      ;[length, at] = varint(data, at)
      yield [key >> 3, data.subarray(at, at + length)]
      at += length
    } else at += 8 // a double
  }
}

/** Packed or single numbers in the fields from 2 on: stacks, and the writable and staged layer. */
function* layersOf(stack: Buffer): Generator<number> {
  for (const [id, value] of fields(stack)) {
    if (id < 2) continue
    if (typeof value === 'number') yield value
    else for (let at = 0, layer; at < value.length; yield layer) [layer, at] = varint(value, at)
  }
}

function named(path: string, stacksField: number): number[] {
  const payload = readFileSync(path).subarray(HEADER_BYTES)
  return [...fields(payload)].flatMap(([id, value]) =>
    id === stacksField && typeof value !== 'number' ? [...layersOf(value)] : [],
  )
}

/** Layers on the disk that neither the live state nor a checkpoint refers to, and files that a cut-off write left. */
export function leftovers(store: string): string[] {
  const checkpoints = readdirSync(join(store, 'checkpoints'))
  const used = new Set(named(join(store, 'state'), STATE_VOLUMES))
  for (const name of checkpoints.filter((name) => /^cp-\d+$/.test(name))) {
    for (const layer of named(join(store, 'checkpoints', name), CHECKPOINT_STACKS)) used.add(layer)
  }
  return [
    ...readdirSync(join(store, 'layers')).filter((name) => !used.has(Number(name))),
    ...checkpoints.filter((name) => !/^cp-\d+(\.durable)?$/.test(name) || !checkpoints.includes(name.split('.')[0]!)),
  ]
}

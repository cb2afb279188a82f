import { StringDecoder } from 'node:string_decoder'

/**
 * Collects a stream of bytes as text: passes every piece on, keeps the first `maxBytes`. A character whose bytes
 * arrive in two pieces is never split.
 */
export class BoundedText {
  readonly #maxBytes: number
  readonly #onText: ((text: string) => void) | undefined
  readonly #onBytes: ((bytes: Uint8Array) => void | Promise<void>) | undefined
  readonly #decoder = new StringDecoder('utf8')
  #kept: Buffer[] = []
  #keptBytes = 0
  #truncated = false
  #ended = false

  constructor(
    maxBytes: number,
    onText?: (text: string) => void,
    onBytes?: (bytes: Uint8Array) => void | Promise<void>,
  ) {
    this.#maxBytes = maxBytes
    this.#onText = onText
    this.#onBytes = onBytes
  }

  /** Whether something was printed that `text` lacks. */
  get truncated(): boolean {
    return this.#truncated
  }

  /** What is kept; a character cut by the bound is left out. */
  get text(): string {
    const decoder = new StringDecoder('utf8')
    const text = decoder.write(Buffer.concat(this.#kept))
    // Bytes that are incomplete because more may come, or because the bound cut them, are not text (yet).
    return this.#ended && !this.#truncated ? text + decoder.end() : text
  }

  /** Takes the next piece; a promise asks for no more until it is settled. */
  write(chunk: Uint8Array): void | Promise<void> {
    const room = this.#maxBytes - this.#keptBytes
    if (chunk.length > room) this.#truncated = true
    if (room > 0) {
      // A copy: the chunk may be a view of a buffer that is used again.
      const kept = Buffer.from(chunk.subarray(0, room))
      this.#kept.push(kept)
      this.#keptBytes += kept.length
    }
    if (this.#onText !== undefined) {
      const text = this.#decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length))
      if (text !== '') this.#onText(text)
    }
    return this.#onBytes?.(chunk)
  }

  /** Output was lost before it came here. */
  markTruncated(): void {
    this.#truncated = true
  }

  /** The stream has ended: passes on what an incomplete character left. Idempotent. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    const text = this.#decoder.end()
    if (text !== '') this.#onText?.(text)
  }
}

/** Short texts in shared memory: job ids and step names, as UTF-8, cut to their room at a whole character. */

/** Longest job id and step name that the board shows, bytes of UTF-8; longer ones are cut. */
export const MAX_ID_BYTES = 160
export const MAX_STEP_BYTES = 96
export const TEXT_BYTES = MAX_ID_BYTES + MAX_STEP_BYTES

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/**
 * Short ASCII, the common case, is written without the encoder.
 * @returns bytes written
 */
export function writeText(bytes: Uint8Array, at: number, max: number, text: string): number {
  const length = Math.min(text.length, max)
  for (let index = 0; index < length; index += 1) {
    const code = text.charCodeAt(index)
    if (code > 127) return encoder.encodeInto(text, bytes.subarray(at, at + max)).written
    bytes[at + index] = code
  }
  return length
}

export function readText(bytes: Uint8Array, at: number, length: number): string {
  // TextDecoder refuses shared memory: decode a copy.
  return decoder.decode(bytes.slice(at, at + length))
}

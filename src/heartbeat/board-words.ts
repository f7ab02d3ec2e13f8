/**
 * The words of the board and its clock. Times are stamps: whole milliseconds of the host's monotonic clock since the board
 * was made, kept as 32 bits. Only their differences are used, taken modulo 2^32, so an age is right up to 49 days.
 */
export class BoardWords {
  readonly cells: Int32Array
  readonly #monotonicMs: () => number
  readonly #epochMs: number

  constructor(cells: Int32Array, monotonicMs: () => number, epochMs: number) {
    this.cells = cells
    this.#monotonicMs = monotonicMs
    this.#epochMs = epochMs
  }

  /** Now. */
  stamp(): number {
    return Math.floor(this.#monotonicMs() - this.#epochMs) | 0
  }

  age(stamp: number): number {
    const age = (this.stamp() - stamp) >>> 0
    // A stamp written a moment after we read the clock lies in our future: that is age 0, not 49 days.
    return age > 0xffff_0000 ? 0 : age
  }

  get(index: number): number {
    return Atomics.load(this.cells, index)
  }

  set(index: number, value: number): void {
    Atomics.store(this.cells, index, value)
  }
}

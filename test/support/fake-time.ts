/** A clock that stands still until the test moves it, with the timers that hang on it. */
export class FakeTime {
  nowMs: number
  readonly #timers = new Map<number, { readonly at: number; readonly run: () => void }>()
  #next = 0

  constructor(startMs = 1000) {
    this.nowMs = startMs
  }

  readonly monotonicMs = (): number => this.nowMs

  /** @returns what takes the timer back */
  readonly timer = (run: () => void, ms: number): (() => void) => {
    const id = this.#next++
    this.#timers.set(id, { at: this.nowMs + ms, run })
    return () => void this.#timers.delete(id)
  }

  /** Lets `ms` pass: each timer runs at its own moment, and what it set off settles before the next. */
  async advance(ms: number): Promise<void> {
    const end = this.nowMs + ms
    await settle()
    for (let due = this.#nextDue(end); due !== undefined; due = this.#nextDue(end)) {
      const timer = this.#timers.get(due)
      this.#timers.delete(due)
      this.nowMs = Math.max(this.nowMs, timer?.at ?? this.nowMs)
      timer?.run()
      await settle()
    }
    this.nowMs = end
    await settle()
  }

  /** Time that nobody lived through: timers that fell due meanwhile run only with the next `advance`. */
  freeze(ms: number): void {
    this.nowMs += ms
  }

  #nextDue(end: number): number | undefined {
    let first: [number, number] | undefined
    for (const [id, { at }] of this.#timers) {
      if (at <= end && (first === undefined || at < first[1])) first = [id, at]
    }
    return first?.[0]
  }
}

/** Lets all promises settle that can without time passing. */
export async function settle(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve))
}

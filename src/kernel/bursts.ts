/**
 * Gathers events that come in bursts: five hundred of a kind within a second are one line with a count, and while they
 * go on coming the lines grow rarer. Nothing is lost: what was gathered is said at the end of its window.
 */
export interface BurstsOptions<T> {
  /** @param items the first of them, at most 20. @param count how many there were */
  readonly say: (kind: string, items: readonly T[], count: number) => void
  /** The first window, milliseconds. Default 1000. */
  readonly windowMs?: number
  /** The longest window, milliseconds. Default 60 000. */
  readonly longestMs?: number
}

const SHOWN = 20
/** Each window of a burst that goes on is so many times longer than the one before. */
const GROWTH = 4

interface Window<T> {
  readonly items: T[]
  count: number
  readonly ms: number
  timer: NodeJS.Timeout
}

export class Bursts<T> {
  readonly #options: BurstsOptions<T>
  readonly #windows = new Map<string, Window<T>>()

  constructor(options: BurstsOptions<T>) {
    this.#options = options
  }

  add(kind: string, item: T, count = 1): void {
    const window = this.#windows.get(kind) ?? this.#open(kind, this.#options.windowMs ?? 1000)
    window.count += count
    if (window.items.length < SHOWN) window.items.push(item)
  }

  /** Says all that was gathered, now. */
  flush(): void {
    for (const [kind, window] of this.#windows) {
      clearTimeout(window.timer)
      this.#say(kind, window)
    }
    this.#windows.clear()
  }

  #open(kind: string, ms: number): Window<T> {
    const timer = setTimeout(() => this.#close(kind), ms)
    timer.unref()
    const window: Window<T> = { items: [], count: 0, ms, timer }
    this.#windows.set(kind, window)
    return window
  }

  #close(kind: string): void {
    const window = this.#windows.get(kind)
    this.#windows.delete(kind)
    // A quiet window ends the burst.
    if (!window || window.count === 0) return
    this.#say(kind, window)
    this.#open(kind, Math.min(window.ms * GROWTH, this.#options.longestMs ?? 60_000))
  }

  #say(kind: string, window: Window<T>): void {
    if (window.count > 0) this.#options.say(kind, window.items, window.count)
  }
}

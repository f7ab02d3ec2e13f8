/**
 * Says the first of a kind at once and counts the rest: the same trouble a thousand times an hour is one line with a
 * number, so that a log stays something that a person reads.
 */
export interface GathererOptions {
  /** How long repetitions are only counted, milliseconds. Default 60 000. */
  readonly windowMs?: number
  readonly monotonicMs: () => number
  /** @param count how often it happened since it was last said, this time included */
  readonly say: (message: string, count: number) => void
}

/** A message with how often it happened, if more than once. */
export function withCount(message: string, count: number): string {
  return count > 1 ? `${message} (${count} times)` : message
}

/** More kinds at once than this are a kind of their own: the oldest is forgotten. */
const MAX_KINDS = 200

export class Gatherer {
  readonly #options: GathererOptions
  readonly #kinds = new Map<string, { saidAt: number; held: number }>()

  constructor(options: GathererOptions) {
    this.#options = options
  }

  add(message: string): void {
    const { windowMs = 60_000, monotonicMs, say } = this.#options
    const now = monotonicMs()
    const kind = this.#kinds.get(message)
    if (kind && now - kind.saidAt < windowMs) {
      kind.held += 1
      return
    }
    this.#kinds.delete(message)
    this.#kinds.set(message, { saidAt: now, held: 0 })
    if (this.#kinds.size > MAX_KINDS) {
      const [oldest] = this.#kinds.keys()
      if (oldest !== undefined) this.#kinds.delete(oldest)
    }
    say(message, (kind?.held ?? 0) + 1)
  }
}

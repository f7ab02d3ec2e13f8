/**
 * The sign of life for a monitor outside (healthchecks.io and its like), which raises the alarm when the signs stop: nothing
 * that runs here can say that everything here is dead. It goes out only from the end of a cycle that really judged, so it
 * stops with the watchdog, with its loop, with its sight and with Redis. Nothing is said about what is stuck: incidents do that.
 */

/** One sign in so long, milliseconds: a monitor whose period is a minute sees at least one in each. */
export const DEADMAN_INTERVAL_MS = 30_000

export interface DeadmanOptions {
  /** Gives the sign. Ends in bounded time. @throws when nobody took it */
  readonly ping: () => Promise<void>
  readonly monotonicMs: () => number
  /** The monitor takes no signs: told once, until it takes one again. */
  readonly onFailure: (error: unknown) => void
  /** Default `DEADMAN_INTERVAL_MS`. */
  readonly intervalMs?: number
}

export class Deadman {
  readonly #options: DeadmanOptions
  #nextAt = Number.NEGATIVE_INFINITY
  #failing = false
  #pinging: Promise<void> | undefined

  constructor(options: DeadmanOptions) {
    this.#options = options
  }

  /** A cycle that judged has ended. May be called as often as cycles end; nothing waits for the monitor. */
  judged(): void {
    const { monotonicMs, intervalMs = DEADMAN_INTERVAL_MS } = this.#options
    const now = monotonicMs()
    if (now < this.#nextAt || this.#pinging) return
    this.#nextAt = now + intervalMs
    this.#pinging = this.#ping().finally(() => {
      this.#pinging = undefined
    })
  }

  async #ping(): Promise<void> {
    try {
      await this.#options.ping()
      this.#failing = false
    } catch (error) {
      if (!this.#failing) this.#options.onFailure(error)
      this.#failing = true
    }
  }
}

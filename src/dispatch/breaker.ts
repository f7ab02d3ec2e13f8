/**
 * What one supervisor knows of the breakers of one queue. The breaker itself lives in Redis, one for all supervisors:
 *
 *   closed ──failures of different jobs, no success between──▶ open ──probe starts──▶ half-open
 *      ▲                                                         ▲                      │    │
 *      └──────────── a success, or a proven heartbeat ───────────┼──────────────────────┘    │
 *                                                                └────── the probe fails ────┘
 *
 * Here is only which groups were open when last heard of, so that a claim of any other group costs nothing, and which
 * groups worked since Redis was last told. To be out of date does no harm: whoever starts under an open breaker is asked
 * for in Redis first, and whoever fails under one is not charged.
 */
export interface BreakersOptions {
  /** Tells Redis that groups worked. @returns those whose breaker that closed */
  readonly worked: (groups: readonly string[]) => Promise<readonly string[]>
  readonly onClosed: (group: string) => void
  readonly onError: (error: unknown) => void
}

/** Successes are told together, so often: at a thousand jobs a second one call for fifty. Milliseconds. */
const TELL_EVERY_MS = 50

export class Breakers {
  readonly #options: BreakersOptions
  #open = new Set<string>()
  #worked = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  #telling: Promise<void> = Promise.resolve()

  constructor(options: BreakersOptions) {
    this.#options = options
  }

  isOpen(group: string): boolean {
    return this.#open.size > 0 && this.#open.has(group)
  }

  /** As Redis has them now. */
  learn(open: readonly string[]): void {
    this.#open = new Set(open)
  }

  opened(group: string): void {
    this.#open.add(group)
  }

  /** It is not open any more, whoever closed it. */
  closed(group: string): void {
    this.#open.delete(group)
  }

  /** A job of the group succeeded. Told at once when that closes a breaker, else with others. */
  worked(group: string): void {
    this.#worked.add(group)
    if (this.isOpen(group)) void this.tell()
    else this.#timer ??= setTimeout(() => void this.tell(), TELL_EVERY_MS)
  }

  /** Tells what is untold; a failure that follows is counted after it. Never rejects. */
  tell(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#worked.size === 0) return this.#telling
    const groups = [...this.#worked]
    this.#worked = new Set()
    this.#telling = this.#telling.then(() => this.#tell(groups))
    return this.#telling
  }

  async #tell(groups: readonly string[]): Promise<void> {
    try {
      for (const group of await this.#options.worked(groups)) {
        this.closed(group)
        this.#options.onClosed(group)
      }
    } catch (error) {
      // The next success of the group tells it again.
      this.#options.onError(error)
    }
  }
}

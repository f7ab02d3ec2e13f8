/**
 * Threads that were given up, until they are gone. To end a thread is only to ask for it: an order can be swallowed by an
 * inspector's evaluation, and a thread in native code obeys when its call returns, or never. So each is watched:
 *
 *   given up ──▶ ordered again ──▶ its child processes ended ──▶ a zombie
 *      └──────────────┴────────────────────┴────── gone ◀───────────┘
 *
 * It never replaces a thread: whoever gave it up has done that, and does not wait for this.
 */

/** A thread obeys within some 10 ms, or not at all; much later than that, and still soon, it is ordered again. Milliseconds. */
const OBEYS_WITHIN_MS = 250
/** What takes so long in native code (a big text to parse, a key to derive) and then ends is nothing to report. Milliseconds. */
const RETURNS_WITHIN_MS = 2000

export interface GivenUpThread {
  readonly threadId: number
  /** Orders its end, once more. */
  terminate(): void
}

export interface ThreadEndsOptions {
  /** How many zombies are borne. */
  readonly zombieLimit: number
  /** Ends the processes that a thread started: it may be waiting for one of them. */
  readonly endChildren: (threadId: number) => void
  /** A thread does not end; what it holds stays held. */
  readonly onZombie: (threadId: number) => void
  /** There are more zombies than are borne. Said once. */
  readonly onTooManyZombies: () => void
  /** @returns what takes the timer back */
  readonly timer: (run: () => void, ms: number) => () => void
}

export class ThreadEnds {
  readonly #options: ThreadEndsOptions
  /** Those that may still obey, with what takes their next step back. */
  readonly #ending = new Map<number, () => void>()
  readonly #zombies = new Set<number>()
  #saidTooMany = false

  constructor(options: ThreadEndsOptions) {
    this.#options = options
  }

  /** Threads that do not end, now. */
  get zombies(): number {
    return this.#zombies.size
  }

  /** Its end was ordered just now. */
  gaveUp(thread: GivenUpThread): void {
    const { threadId } = thread
    if (this.#ending.has(threadId) || this.#zombies.has(threadId)) return
    this.#unlessGone(threadId, OBEYS_WITHIN_MS, () => {
      thread.terminate()
      this.#unlessGone(threadId, OBEYS_WITHIN_MS, () => {
        this.#options.endChildren(threadId)
        this.#unlessGone(threadId, RETURNS_WITHIN_MS, () => this.#isZombie(threadId))
      })
    })
  }

  #unlessGone(threadId: number, ms: number, next: () => void): void {
    const step = () => {
      if (this.#ending.has(threadId)) next()
    }
    this.#ending.set(threadId, this.#options.timer(step, ms))
  }

  #isZombie(threadId: number): void {
    this.#ending.delete(threadId)
    this.#zombies.add(threadId)
    this.#options.onZombie(threadId)
    if (this.#zombies.size <= this.#options.zombieLimit || this.#saidTooMany) return
    this.#saidTooMany = true
    this.#options.onTooManyZombies()
  }

  /** It is gone, whatever ended it. */
  exited(threadId: number): void {
    this.#ending.get(threadId)?.()
    this.#ending.delete(threadId)
    this.#zombies.delete(threadId)
  }
}

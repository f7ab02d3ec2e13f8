/**
 * May this observer judge anybody now? Pure. It suspects itself first: verdicts compare ages in the store with
 * thresholds, and those ages lie when the store's clock jumped, when the observer itself was paused, when the store
 * lost its memory, or when it could not be read. After each of these the observer is **blind**: it judges nobody until
 * it has had clean looks for a full heartbeat timeout, time enough for everyone alive to have beaten again.
 *
 *   starting ──timeoutMs of clean looks──▶ clear ──doubt──▶ blind(reason) ──timeoutMs of clean looks──▶ clear
 *
 * It never compares two machines' clocks: only how far Redis TIME and the own monotonic clock have moved.
 */
export type BlindReason = 'starting' | 'clock_jump' | 'paused' | 'memory_lost' | 'unreachable'

/** One successful look at the store. */
export interface Look {
  /** Redis TIME, milliseconds. */
  readonly redisNow: number
  /** The store's epoch before this look set one; undefined when it was missing. */
  readonly epochBefore: string | undefined
  /** The epoch that is in force after this look. */
  readonly epoch: string
  /** The own monotonic clock just before the call and just after the reply, milliseconds. */
  readonly before: number
  readonly after: number
}

export interface Sight {
  /**
   * `all`: every verdict. `stated`: only what a beat that arrived since `clearForMs` says of itself; silence proves
   * nothing yet (after a start). `none`: nobody is judged, nothing opens, nothing closes.
   */
  readonly judges: 'all' | 'stated' | 'none'
  /** Undefined when it may judge all. */
  readonly reason: BlindReason | undefined
  /** How long the looks have been clean, milliseconds. */
  readonly clearForMs: number
  /** How long it has been blind, from the last clean look before, milliseconds; 0 when it is not. */
  readonly blindForMs: number
}

export interface ObserverOptions {
  /** heartbeat.timeoutMs: how long a stretch of clean looks must be. */
  readonly timeoutMs: number
  /** A gap between its own looks that is longer was a pause of its own, milliseconds. Default: timeoutMs. */
  readonly pauseMs?: number
  /** How much the two clocks may disagree beyond the round trip, milliseconds. Default 500: slewing, not steps. */
  readonly toleranceMs?: number
}

const DEFAULT_TOLERANCE_MS = 500

export class Observer {
  readonly #timeoutMs: number
  readonly #pauseMs: number
  readonly #toleranceMs: number
  #reason: BlindReason | undefined = 'starting'
  /** The look that the present clean stretch began with. */
  #clearSince: number | undefined
  #blindSince: number | undefined
  #lastGood: Look | undefined
  /** When the last attempt ended, good or not. */
  #lastAttempt: number | undefined

  constructor(options: ObserverOptions) {
    this.#timeoutMs = options.timeoutMs
    this.#pauseMs = options.pauseMs ?? options.timeoutMs
    this.#toleranceMs = options.toleranceMs ?? DEFAULT_TOLERANCE_MS
  }

  /** The store answered. */
  looked(look: Look): Sight {
    const doubt = this.#doubtOf(look)
    if (doubt) this.#goBlind(doubt, look.after)
    if (doubt || this.#clearSince === undefined) this.#clearSince = look.after
    this.#lastGood = look
    this.#lastAttempt = look.after
    if (this.#reason && look.after - this.#clearSince >= this.#timeoutMs) {
      this.#reason = undefined
      this.#blindSince = undefined
    }
    return this.#sight(look.after)
  }

  /** The store did not answer, or not in time. */
  failed(before: number, after: number): Sight {
    this.#goBlind(this.#wasPaused(before, after) ? 'paused' : 'unreachable', after)
    this.#clearSince = undefined
    this.#lastAttempt = after
    return this.#sight(after)
  }

  #doubtOf(look: Look): BlindReason | undefined {
    const last = this.#lastGood
    if (last && look.epochBefore !== last.epoch) return 'memory_lost'
    if (this.#wasPaused(look.before, look.after)) return 'paused'
    if (last && this.#clockJumped(last, look)) return 'clock_jump'
    return undefined
  }

  #wasPaused(before: number, after: number): boolean {
    if (after - before > this.#pauseMs) return true
    return this.#lastAttempt !== undefined && before - this.#lastAttempt > this.#pauseMs
  }

  /** The store's clock was read somewhere between before and after, so its step has bounds on ours. */
  #clockJumped(last: Look, look: Look): boolean {
    const moved = look.redisNow - last.redisNow
    const atLeast = look.before - last.after - this.#toleranceMs
    const atMost = look.after - last.before + this.#toleranceMs
    return moved < atLeast || moved > atMost
  }

  /** A lost memory outranks all; otherwise the first reason is kept: a jump seen after an outage belongs to the outage. */
  #goBlind(reason: BlindReason, now: number): void {
    this.#blindSince ??= this.#lastGood?.after ?? now
    if (this.#reason === undefined || this.#reason === 'starting' || reason === 'memory_lost') this.#reason = reason
  }

  #sight(now: number): Sight {
    const clearForMs = this.#clearSince === undefined ? 0 : now - this.#clearSince
    const judges = this.#reason === undefined ? 'all' : this.#reason === 'starting' ? 'stated' : 'none'
    const blindForMs = this.#reason === undefined || this.#blindSince === undefined ? 0 : now - this.#blindSince
    return { judges, reason: this.#reason, clearForMs, blindForMs }
  }
}

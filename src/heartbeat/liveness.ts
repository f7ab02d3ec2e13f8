/**
 * Whether this process ought to be started anew, for those who can do that: a probe, systemd. Pure but for its memory.
 *
 * It goes by the rule of the beats (`lateIn`): a blocked main loop, or a loop that is stale. A stale loop counts only for
 * the time in which the sentinel's own beats reached the store: while Redis is away every loop hangs, a new process would
 * hang as well, and the jobs that run would be lost for nothing. Blocked threads and silent jobs have ways of their own.
 */
import { type Beat, type Late, lateIn } from './beat.js'

export class Liveness {
  readonly #timeoutMs: number
  #beat: Beat | undefined
  /** First and last of the beats that were accepted without a gap, monotonic milliseconds. */
  #reached: { readonly since: number; readonly last: number } | undefined

  /** @param timeoutMs heartbeat.timeoutMs: without an accepted beat for so long, the store is out of reach */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** The board was looked at. The sentinel does so at the moment at which something falls late, so the last look is true. */
  sampled(beat: Beat): Beat {
    this.#beat = beat
    return beat
  }

  /** The store took a beat. */
  accepted(now: number): void {
    this.#reached = { since: this.#isReached(now) ? (this.#reached?.since ?? now) : now, last: now }
  }

  /** What is wrong, in words; undefined when it lives, or when nothing was looked at yet. */
  problem(now: number): string | undefined {
    const late = this.#beat ? lateIn(this.#beat).find((one) => this.#counts(one, now)) : undefined
    if (!late) return undefined
    const { subject, cause, ageMs, phase } = late
    return `${subject}: ${cause} for ${Math.round(ageMs / 1000)} s${phase ? `, in ${phase}` : ''}`
  }

  #counts({ cause, thresholdMs }: Late, now: number): boolean {
    if (cause === 'loop_blocked') return true
    if (cause !== 'poll_stale' && cause !== 'never_polled') return false
    return this.#isReached(now) && now - (this.#reached?.since ?? now) > thresholdMs
  }

  #isReached(now: number): boolean {
    return this.#reached !== undefined && now - this.#reached.last <= this.#timeoutMs
  }
}

/**
 * Since when a queue is in trouble. Pure. Queues send no beats, so the watchdog times their troubles itself, by its own
 * monotonic clock from its first look at the trouble: no job timestamp is compared with anybody's clock. What it knows
 * survives nothing; a restarted watchdog starts anew, and an incident that is open already needs only the trouble
 * itself, not its age, to stay open.
 */
import type { Cause } from '../heartbeat/beat.js'
import type { QueueFacts } from '../heartbeat/queue-facts.js'

export interface QueueThresholds {
  readonly noWorkerAfterMs: number
  readonly notMovingAfterMs: number
}

/** A trouble that holds now. It is reported once `heldMs` exceeds `thresholdMs`. */
export interface QueueCondition {
  readonly cause: Extract<Cause, 'no_eligible_worker' | 'queue_not_moving' | 'scheduler_overdue'>
  readonly heldMs: number
  readonly thresholdMs: number
  /** The overdue scheduler. */
  readonly scheduler?: string
}

interface Track {
  noWorkerSince: number | undefined
  head: string | undefined
  headSince: number
  readonly schedulersSince: Map<string, number>
}

export class QueueTracker {
  readonly #thresholdsOf: (queue: string) => QueueThresholds
  readonly #tracks = new Map<string, Track>()

  constructor(thresholdsOf: (queue: string) => QueueThresholds) {
    this.#thresholdsOf = thresholdsOf
  }

  /**
   * Takes a look into account.
   * @param now own monotonic clock, milliseconds
   * @returns what is wrong now, the gravest first
   */
  observe(facts: QueueFacts, now: number): QueueCondition[] {
    const track = this.#trackOf(facts.queue, now)
    const { noWorkerAfterMs, notMovingAfterMs } = this.#thresholdsOf(facts.queue)
    const conditions: QueueCondition[] = []

    const noWorkerSince = workersMissing(facts) ? (track.noWorkerSince ?? now) : undefined
    track.noWorkerSince = noWorkerSince
    if (noWorkerSince !== undefined) {
      conditions.push({ cause: 'no_eligible_worker', heldMs: now - noWorkerSince, thresholdMs: noWorkerAfterMs })
    }
    const headSince = this.#headSince(track, facts, now)
    if (headSince !== undefined) {
      conditions.push({ cause: 'queue_not_moving', heldMs: now - headSince, thresholdMs: notMovingAfterMs })
    }
    const overdue = oldestScheduler(track, facts, now)
    if (overdue) {
      const { scheduler, since } = overdue
      conditions.push({ cause: 'scheduler_overdue', heldMs: now - since, thresholdMs: notMovingAfterMs, scheduler })
    }
    return conditions
  }

  /** After a blindness nothing that was seen before it counts. */
  forget(): void {
    this.#tracks.clear()
  }

  #trackOf(queue: string, now: number): Track {
    let track = this.#tracks.get(queue)
    if (!track) {
      track = { noWorkerSince: undefined, head: undefined, headSince: now, schedulersSince: new Map() }
      this.#tracks.set(queue, track)
    }
    return track
  }

  /** Since when the same job has been next in line although somebody was free to take it. */
  #headSince(track: Track, facts: QueueFacts, now: number): number | undefined {
    const stands = facts.head !== undefined && facts.free > 0 && !rests(facts)
    const before = track.head
    track.head = stands ? facts.head : undefined
    if (!stands) return undefined
    if (before === facts.head) return track.headSince
    track.headSince = now
    // Another head means that it moved just now; no head before means that we do not know yet.
    return before === undefined ? now : undefined
  }
}

/** Paused, rate-limited or at its own limit: it takes nothing on purpose. */
function rests(facts: QueueFacts): boolean {
  return facts.paused || facts.limitedMs > 0 || facts.maxed
}

function workersMissing(facts: QueueFacts): boolean {
  return facts.waiting > 0 && !facts.paused && facts.eligible === 0
}

function oldestScheduler(track: Track, facts: QueueFacts, now: number): { scheduler: string; since: number } | undefined {
  const overdue = new Set(facts.paused ? [] : facts.overdueSchedulers)
  for (const known of track.schedulersSince.keys()) {
    if (!overdue.has(known)) track.schedulersSince.delete(known)
  }
  let oldest: { scheduler: string; since: number } | undefined
  for (const scheduler of overdue) {
    const since = track.schedulersSince.get(scheduler) ?? now
    track.schedulersSince.set(scheduler, since)
    if (!oldest || since < oldest.since) oldest = { scheduler, since }
  }
  return oldest
}

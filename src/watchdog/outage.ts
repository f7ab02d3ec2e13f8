/**
 * Redis away, as one watchdog sees it. Pure. It is asked by a timer of its own, so it needs no answer of the store; and
 * it counts only time in which this process was awake, so a watchdog that was stopped for an hour does not blame Redis.
 */
import { subjectOf } from '../heartbeat/beat.js'
import type { Incident } from './incident.js'

/** The longest that may pass between two ticks of an awake process and be counted in full, milliseconds. */
const AWAKE_GAP_MS = 1000

export interface OutageOptions {
  readonly watchdogId: string
  /** watchdog.redisUnreachableAfterMs */
  readonly thresholdMs: number
  readonly newId: () => string
}

export interface OutageClock {
  /** Own monotonic clock, milliseconds. */
  readonly now: number
  /** Own wall clock, milliseconds: there is no other to ask now. */
  readonly wall: number
}

export class Outage {
  readonly #options: OutageOptions
  #silentMs = 0
  #lastTick: number | undefined
  #open: Incident | undefined

  constructor(options: OutageOptions) {
    this.#options = options
  }

  /** The open incident, while Redis is called unreachable. */
  get incident(): Incident | undefined {
    return this.#open
  }

  /** @returns the incident at the tick that opens it */
  tick({ now, wall }: OutageClock): Incident | undefined {
    this.#silentMs += Math.min(now - (this.#lastTick ?? now), AWAKE_GAP_MS, this.#options.thresholdMs / 2)
    this.#lastTick = now
    if (this.#open || this.#silentMs <= this.#options.thresholdMs) return undefined
    this.#open = this.#incident(Math.round(this.#silentMs), wall)
    return this.#open
  }

  /** Redis answered. @returns the incident that ends with it, and how long Redis was silent */
  answered(): { incident: Incident; silentMs: number } | undefined {
    const incident = this.#open
    const silentMs = Math.round(this.#silentMs)
    this.#open = undefined
    this.#silentMs = 0
    return incident && { incident, silentMs }
  }

  #incident(ageMs: number, wall: number): Incident {
    const { thresholdMs, watchdogId, newId } = this.#options
    return {
      incidentId: newId(),
      subjectKind: 'redis',
      subject: subjectOf.redis(),
      cause: 'redis_unreachable',
      ageMs,
      thresholdMs,
      since: new Date(wall - ageMs).toISOString(),
      watchdogId,
      seq: 0,
      openedAtRedisMs: wall,
      lastAtRedisMs: wall,
      count: 1,
      held: false,
      heldBack: 0,
    }
  }
}

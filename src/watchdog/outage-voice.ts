/** Of Redis itself each watchdog speaks alone, without asking anybody; the stream is told when there is a Redis again. */
import type { Clock } from '../kernel/clock.js'
import type { Incident, Incidents, Transition } from './incident.js'
import { Outage } from './outage.js'
import { type LineLog, lineOf } from './report.js'

export interface OutageVoiceOptions {
  readonly watchdogId: string
  readonly clock: Clock
  readonly log: LineLog
  readonly newId: () => string
  /** watchdog.redisUnreachableAfterMs */
  readonly thresholdMs: number
  readonly onSaid: (transition: Transition) => void
}

export class OutageVoice {
  readonly #options: OutageVoiceOptions
  readonly #outage: Outage
  #unrecorded: Transition[] = []

  constructor(options: OutageVoiceOptions) {
    this.#options = options
    const { watchdogId, thresholdMs, newId } = options
    this.#outage = new Outage({ watchdogId, thresholdMs, newId })
  }

  /** The open redis_unreachable of this watchdog. */
  get incident(): Incident | undefined {
    return this.#outage.incident
  }

  /** Says that Redis does not answer, when it has not for too long. To be called often. */
  tick(): void {
    const { clock } = this.#options
    const incident = this.#outage.tick({ now: clock.monotonicMs(), wall: clock.now() })
    if (incident) this.#say({ seq: 0, at: clock.now(), event: 'stuck', incident })
  }

  answered(): void {
    const ended = this.#outage.answered()
    if (!ended) return
    const { incident, silentMs } = ended
    const at = this.#options.clock.now()
    this.#say({ seq: 0, at, event: 'resumed', outcome: 'recovered', durationMs: silentMs, incident })
  }

  /** Tells the stream what was said without it. */
  async recordIn(incidents: Incidents): Promise<void> {
    if (this.#unrecorded.length === 0) return
    await incidents.record(this.#unrecorded)
    this.#unrecorded = []
  }

  #say(transition: Transition): void {
    const { log, onSaid, watchdogId } = this.#options
    const { level, fields, message } = lineOf(transition, watchdogId)
    log[level](fields, message)
    onSaid(transition)
    this.#unrecorded.push(transition)
  }
}

/**
 * Writes the lines of transitions, each once. The winner of a transition has SAY_WITHIN_MS to write it and say so; then
 * whoever claims it does. So a watchdog that was paused between winning and writing must not write any more, and one
 * whose acknowledgement got lost must not write again.
 */
import type { Clock } from '../kernel/clock.js'
import type { DumpNote } from './dump-note.js'
import { type Incidents, SAY_WITHIN_MS, type Transition } from './incident.js'
import { type LineLog, lineOf } from './report.js'

/** The share of the time to say after which the winner leaves a line to the claim: the rest is for the write itself. */
const LATEST_SHARE = 0.75
/** How many written lines are remembered, to tell a claim of what was written already. */
const REMEMBERED = 1000

export interface SpeakerOptions {
  readonly watchdogId: string
  readonly clock: Clock
  readonly incidents: Incidents
  readonly log: LineLog
  readonly onSaid: (transition: Transition) => void
}

export class Speaker {
  readonly #options: SpeakerOptions
  readonly #written = new Set<string>()
  #unacknowledged: Transition[] = []

  constructor(options: SpeakerOptions) {
    this.#options = options
  }

  /**
   * @param decidedAt own monotonic clock before the call that won them
   * @param note the dump that was taken meanwhile
   */
  async say(transitions: readonly Transition[], decidedAt: number, note?: DumpNote): Promise<void> {
    for (const transition of transitions) {
      if (!this.#written.has(nameOf(transition))) {
        if (this.#options.clock.monotonicMs() - decidedAt > SAY_WITHIN_MS * LATEST_SHARE) continue
        this.#write(transition, note)
      }
      await this.#acknowledge(transition)
    }
  }

  /** Writes what others, or a former life of this watchdog, won and did not write. */
  async sayUnsaid(): Promise<void> {
    const before = this.#options.clock.monotonicMs()
    await this.say(await this.#options.incidents.claimUnsaid(), before)
  }

  /** Says again what was written, where the store did not hear it. */
  async acknowledgeAgain(): Promise<void> {
    const again = this.#unacknowledged
    this.#unacknowledged = []
    for (const transition of again) await this.#acknowledge(transition)
  }

  #write(transition: Transition, note: DumpNote | undefined): void {
    const { log, watchdogId, onSaid } = this.#options
    const noted = note ? { ...transition, incident: { ...transition.incident, ...note } } : transition
    const { level, fields, message } = lineOf(noted, watchdogId)
    log[level](fields, message)
    this.#written.add(nameOf(transition))
    for (const oldest of this.#written) {
      if (this.#written.size <= REMEMBERED) break
      this.#written.delete(oldest)
    }
    onSaid(transition)
  }

  async #acknowledge(transition: Transition): Promise<void> {
    try {
      await this.#options.incidents.said(transition)
    } catch {
      // The outage itself is reported elsewhere; the next good cycle says it again.
      this.#unacknowledged.push(transition)
    }
  }
}

/** Numbers alone repeat: a store that was flushed counts from one again. */
function nameOf({ seq, incident }: Transition): string {
  return `${seq} ${incident.incidentId}`
}

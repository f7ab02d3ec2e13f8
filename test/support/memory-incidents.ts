/** The incident store in memory, with a clock that a test moves. It obeys the same contract suite as the Redis one. */
import type { DumpNote } from '../../src/watchdog/dump-note.js'
import {
  FLAPPING_OPENINGS,
  FLAPPING_WINDOW_MS,
  type Incident,
  type IncidentDraft,
  type Incidents,
  type Outcome,
  SAY_WITHIN_MS,
  type Transition,
} from '../../src/watchdog/incident.js'

interface History {
  openings: number[]
  closedSeq: number
}

export class MemoryIncidents implements Incidents {
  readonly open_ = new Map<string, Incident>()
  readonly transitions: Transition[] = []
  /** `died:GROUP` and `back:GROUP`. */
  readonly restarts = new Map<string, number>()
  readonly #unsaid = new Map<number, number>()
  readonly #history = new Map<string, History>()
  readonly #now: () => number
  seq = 0

  /** @param now the store's clock, milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  get overdueLines(): number {
    return [...this.#unsaid.values()].filter((at) => at <= this.#now()).length
  }

  async open(draft: IncidentDraft, asOf: number): Promise<readonly Transition[]> {
    const now = this.#now()
    const history = this.#history.get(draft.subject) ?? { openings: [], closedSeq: 0 }
    if (this.open_.has(draft.subject) || history.closedSeq > asOf) return []
    history.openings = [...history.openings.filter((at) => at > now - FLAPPING_WINDOW_MS), now]
    this.#history.set(draft.subject, history)
    const held = history.openings.length > FLAPPING_OPENINGS
    const seq = ++this.seq
    const incident: Incident = { seq, openedAtRedisMs: now, lastAtRedisMs: now, held, heldBack: 0, ...draft }
    this.open_.set(draft.subject, incident)
    const died = `died:${draft.group ?? ''}`
    if (draft.cause === 'process_dead') this.restarts.set(died, (this.restarts.get(died) ?? 0) + 1)
    const stuck = this.#emit({ seq, at: now, event: 'stuck', incident })
    if (!held) return [stuck]
    return [stuck, this.#emit({ seq: ++this.seq, at: now, event: 'flapping', openings: history.openings.length, incident })]
  }

  async note({ subject, incidentId }: Incident, note: DumpNote): Promise<void> {
    const incident = this.open_.get(subject)
    if (incident?.incidentId === incidentId) this.open_.set(subject, { ...incident, ...note })
  }

  async close({ subject, incidentId }: Incident, outcome: Outcome): Promise<readonly Transition[]> {
    const incident = this.open_.get(subject)
    if (incident?.incidentId !== incidentId) return []
    this.open_.delete(subject)
    const { cause, group = '' } = incident
    const died = this.restarts.get(`died:${group}`)
    if (cause === 'process_dead' && (outcome === 'recovered' || outcome === 'replaced') && died !== undefined)
      this.restarts.set(`back:${group}`, died)
    const now = this.#now()
    const seq = ++this.seq
    const history = this.#history.get(subject)
    if (history) history.closedSeq = seq
    const durationMs = now - incident.openedAtRedisMs + incident.ageMs
    return [this.#emit({ seq, at: now, event: 'resumed', outcome, durationMs, incident })]
  }

  async update(from: Incident, to: Incident): Promise<boolean> {
    if (this.open_.get(from.subject) !== from) return false
    this.open_.set(to.subject, to)
    return true
  }

  async record(transitions: readonly Transition[]): Promise<void> {
    for (const transition of transitions) this.transitions.push({ ...transition, seq: ++this.seq })
  }

  async said(transition: Transition): Promise<void> {
    this.#unsaid.delete(transition.seq)
  }

  async claimUnsaid(): Promise<readonly Transition[]> {
    const now = this.#now()
    const overdue = this.transitions.filter(({ seq }) => (this.#unsaid.get(seq) ?? Number.POSITIVE_INFINITY) <= now)
    for (const { seq } of overdue) this.#unsaid.set(seq, now + SAY_WITHIN_MS)
    return overdue
  }

  async restore(incidents: readonly Incident[]): Promise<void> {
    for (const incident of incidents) {
      this.seq = Math.max(this.seq, incident.seq)
      if (!this.open_.has(incident.subject)) this.open_.set(incident.subject, incident)
    }
  }

  async listOpen(): Promise<readonly Incident[]> {
    return [...this.open_.values()]
  }

  async recent(limit: number): Promise<readonly Transition[]> {
    return this.transitions.toReversed().slice(0, limit)
  }

  #emit(transition: Transition): Transition {
    this.transitions.push(transition)
    this.#unsaid.set(transition.seq, transition.at + SAY_WITHIN_MS)
    return transition
  }
}

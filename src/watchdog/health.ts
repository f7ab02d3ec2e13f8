/**
 * The state machine of incidents: what opens, closes, is touched or held. Pure: it decides, the watch loop acts, and
 * the store lets one watchdog win.
 *
 *             ripe, uncovered finding                      gone: outcome
 *   (fine) ───────────────────────────▶ STUCK ───────────────────────────────▶ RESUMED
 *                                         │ more than FLAPPING_OPENINGS in the window
 *                                         ▼
 *                                       held ──calm──▶ held, calm ──calm for FLAPPING_CALM_MS──▶ RESUMED
 *                                         ▲──again, counted──┘
 *
 * It never opens or closes on what is not known: a watchdog that is blind, a supervisor that was not looked at, a record
 * that cannot be read. An open incident ends only when its trouble is known to be over, or to be another one.
 */
import { subjectOf } from '../heartbeat/beat.js'
import type { BlindReason, Sight } from '../heartbeat/observer.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import { type Diagnosis, type Finding, isDead, type WatchdogPresence } from './diagnosis.js'
import { FLAPPING_CALM_MS, type Incident, type Outcome, type Trouble } from './incident.js'

/** An open incident's record is renewed at most this often, milliseconds: a trouble seen 700 times is one record. */
export const TOUCH_EVERY_MS = 5000

export type Decision =
  | { readonly do: 'open'; readonly trouble: Trouble; readonly observedAgoMs: number }
  | { readonly do: 'close'; readonly incident: Incident; readonly outcome: Outcome }
  | { readonly do: 'update'; readonly from: Incident; readonly to: Incident }
  /** A dead supervisor is gone for good: its record may go. */
  | { readonly do: 'forget'; readonly seen: SeenBeat }
  | { readonly do: 'forget-watchdog'; readonly id: string }

export interface HealthInput {
  readonly sight: Sight
  readonly diagnosis: Diagnosis
  readonly open: readonly Incident[]
  readonly watchdogs: readonly WatchdogPresence[]
  /** Redis TIME of the look, milliseconds. */
  readonly redisNow: number
  /** Own monotonic clock, milliseconds. */
  readonly now: number
}

export interface HealthOptions {
  readonly watchdogId: string
  readonly goneAfterMs: number
  /** heartbeat.timeoutMs: what watchdog_blind names as its threshold. */
  readonly timeoutMs: number
}

/** These are said; `unreachable` has an incident of its own, and every watchdog starts. */
const saidBlindness: ReadonlySet<BlindReason> = new Set(['clock_jump', 'paused', 'memory_lost'])

export class Health {
  readonly #options: HealthOptions
  readonly #self: string
  /** Sightings of open incidents that are not in the store yet. */
  readonly #sightings = new Map<string, { count: number; since: number }>()

  constructor(options: HealthOptions) {
    this.#options = options
    this.#self = subjectOf.watchdog(options.watchdogId)
  }

  decide(input: HealthInput): Decision[] {
    const blindness = this.#blindness(input)
    if (input.sight.judges === 'none') return blindness
    const findings = new Map(input.diagnosis.findings.map((finding) => [finding.subject, finding]))
    const decisions = [...blindness]
    for (const incident of input.open) {
      if (incident.subject === this.#self && incident.cause === 'watchdog_blind') continue
      decisions.push(...this.#ofOpen(incident, findings.get(incident.subject), input))
    }
    const subjects = new Map(input.open.map((incident) => [incident.subject, incident]))
    for (const finding of findings.values()) {
      const open = subjects.get(finding.subject)
      if (finding.ripe && finding.coveredBy === undefined && open?.cause !== finding.cause) {
        decisions.push({ do: 'open', trouble: troubleOf(finding), observedAgoMs: finding.observedAgoMs })
      }
    }
    this.#prune(input.open)
    return decisions
  }

  /** The watchdog's own incident: open while it may not judge for a reason worth saying, closed when it sees again. */
  #blindness({ sight, open }: HealthInput): Decision[] {
    const own = open.find((incident) => incident.subject === this.#self)
    if (sight.reason && saidBlindness.has(sight.reason)) {
      if (own?.cause === 'watchdog_blind') return []
      const trouble: Trouble = {
        subjectKind: 'watchdog',
        subject: this.#self,
        cause: 'watchdog_blind',
        ageMs: Math.round(sight.blindForMs),
        thresholdMs: this.#options.timeoutMs,
        phase: sight.reason,
      }
      const superseded: Decision[] = own ? [{ do: 'close', incident: own, outcome: 'superseded' }] : []
      return [...superseded, { do: 'open', trouble, observedAgoMs: 0 }]
    }
    return own?.cause === 'watchdog_blind' && sight.judges === 'all'
      ? [{ do: 'close', incident: own, outcome: 'recovered' }]
      : []
  }

  #ofOpen(incident: Incident, finding: Finding | undefined, input: HealthInput): Decision[] {
    const gone = this.#gone(incident, finding, input)
    if (gone) return gone
    const outcome = finding ? changeOf(incident, finding) : this.#endOf(incident, input)
    if (outcome === undefined) return finding ? this.#stillHolds(incident, input) : []
    if (incident.held && (outcome === 'recovered' || outcome === 'drained')) return this.#calm(incident, outcome, input)
    return [{ do: 'close', incident, outcome }]
  }

  /** Dead for so long that nobody expects it back. */
  #gone(incident: Incident, finding: Finding | undefined, { diagnosis, watchdogs }: HealthInput): Decision[] | undefined {
    if (!finding || finding.ageMs < this.#options.goneAfterMs) return undefined
    if (incident.cause === 'process_dead') {
      const seen = diagnosis.supervisors.get(incident.supervisor ?? '')
      return [{ do: 'close', incident, outcome: 'gone' }, ...(seen ? [{ do: 'forget', seen } as const] : [])]
    }
    if (incident.cause !== 'watchdog_lost') return undefined
    const lost = watchdogs.find(({ id }) => subjectOf.watchdog(id) === incident.subject)
    return [{ do: 'close', incident, outcome: 'gone' }, ...(lost ? [{ do: 'forget-watchdog', id: lost.id } as const] : [])]
  }

  #stillHolds(incident: Incident, { redisNow, now }: HealthInput): Decision[] {
    const sightings = this.#sightings.get(incident.incidentId) ?? { count: 0, since: now }
    const count = sightings.count + 1
    const again = incident.calmSinceRedisMs !== undefined
    if (!again && now - sightings.since < TOUCH_EVERY_MS) {
      this.#sightings.set(incident.incidentId, { count, since: sightings.since })
      return []
    }
    this.#sightings.set(incident.incidentId, { count: 0, since: now })
    const { calmSinceRedisMs: _, ...rest } = incident
    const to = {
      ...rest,
      count: incident.count + count,
      lastAtRedisMs: redisNow,
      heldBack: incident.heldBack + (again ? 1 : 0),
    }
    return [{ do: 'update', from: incident, to }]
  }

  #calm(incident: Incident, outcome: Outcome, { redisNow }: HealthInput): Decision[] {
    if (incident.calmSinceRedisMs === undefined) {
      return [{ do: 'update', from: incident, to: { ...incident, calmSinceRedisMs: redisNow } }]
    }
    return redisNow - incident.calmSinceRedisMs >= FLAPPING_CALM_MS ? [{ do: 'close', incident, outcome }] : []
  }

  /** How a trouble that is not found any more ended; undefined when nothing is known of it. */
  #endOf(incident: Incident, { diagnosis, watchdogs, sight }: HealthInput): Outcome | undefined {
    if (incident.subjectKind === 'queue') return queueEnd(incident, diagnosis)
    if (incident.subjectKind === 'watchdog') return sight.judges === 'all' ? watchdogEnd(incident, watchdogs) : undefined
    const seen = diagnosis.supervisors.get(incident.supervisor ?? '')
    return seen ? supervisorEnd(incident, seen) : undefined
  }

  #prune(open: readonly Incident[]): void {
    if (this.#sightings.size === 0) return
    const ids = new Set(open.map((incident) => incident.incidentId))
    for (const id of this.#sightings.keys()) {
      if (!ids.has(id)) this.#sightings.delete(id)
    }
  }
}

/** The subject is in trouble still; is it the same trouble of the same incarnation? */
function changeOf(incident: Incident, finding: Finding): Outcome | undefined {
  if (incident.incarnation !== finding.incarnation && finding.incarnation !== undefined) return 'replaced'
  return incident.cause === finding.cause ? undefined : 'superseded'
}

function supervisorEnd(incident: Incident, seen: SeenBeat): Outcome {
  if (seen.bye) return 'stopped'
  if (seen.incarnation === undefined && !isDead(seen)) return 'gone'
  if (seen.incarnation !== undefined && incident.incarnation !== undefined && seen.incarnation !== incident.incarnation)
    return 'replaced'
  if (isDead(seen)) return 'superseded'
  return restsOnPurpose(incident, seen) ? 'stopped' : 'recovered'
}

/** A loop that was told to rest is not late any more, but it has not come round either. */
function restsOnPurpose(incident: Incident, { beat }: SeenBeat): boolean {
  if (!beat || incident.subjectKind !== 'loop') return false
  const loop = beat.loops.find((one) => one.queue === incident.queue && incident.subject.includes(`/loop:${one.loop}`))
  return loop?.state === 'paused' || loop?.state === 'draining' || loop?.state === 'stopped' || beat.state === 'stopped'
}

function queueEnd(incident: Incident, diagnosis: Diagnosis): Outcome | undefined {
  const evidence = diagnosis.queues.get(incident.queue ?? '')
  if (!evidence) return undefined
  if (evidence.facts.paused) return 'stopped'
  if (evidence.conditions.length > 0) return 'superseded'
  return evidence.facts.waiting === 0 && incident.cause !== 'scheduler_overdue' ? 'drained' : 'recovered'
}

function watchdogEnd(incident: Incident, watchdogs: readonly WatchdogPresence[]): Outcome | undefined {
  const present = watchdogs.some(({ id }) => subjectOf.watchdog(id) === incident.subject)
  if (!present) return 'stopped'
  // Another watchdog's blindness is its own to end.
  return incident.cause === 'watchdog_lost' ? 'recovered' : undefined
}

function troubleOf({ coveredBy: _, ripe: __, observedAgoMs: ___, ...trouble }: Finding): Trouble {
  return trouble
}

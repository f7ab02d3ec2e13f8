/**
 * From evidence to one cause for each subject. Pure: no clock, no store.
 *
 * It owns the cover rules (one trouble, one incident): what a larger trouble explains is a finding still, but a covered
 * one, which opens nothing. It never decides what to do about a finding; `health.ts` does. And it says of whom it knows
 * anything at all: who is not known is neither accused nor acquitted.
 *
 *   process dead ─▶ all its parts are unknowable, and its queues stand still
 *   main event loop blocked ─▶ its loops ─▶ their queues stand still
 *   fetch loop stale ─▶ its lock renewal, its queue
 *   thread blocked ─▶ its jobs
 */
import { type Late, lateIn, subjectOf } from '../heartbeat/beat.js'
import type { Sight } from '../heartbeat/observer.js'
import type { QueueFacts } from '../heartbeat/queue-facts.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import { messageOf } from '../kernel/errors.js'
import type { DumpPlace } from './dump-note.js'
import type { Incident, Trouble } from './incident.js'
import type { QueueCondition } from './queue-tracker.js'

export interface QueueEvidence {
  readonly facts: QueueFacts
  readonly conditions: readonly QueueCondition[]
}

export interface WatchdogPresence {
  readonly id: string
  /** Since its last cycle, by Redis TIME. */
  readonly silentMs: number
}

/** What one cycle saw. Only what was looked at is in it; absence means nothing. */
export interface Evidence {
  readonly sight: Sight
  readonly supervisors: readonly SeenBeat[]
  readonly queues: readonly QueueEvidence[]
  /** The other watchdogs. */
  readonly watchdogs: readonly WatchdogPresence[]
  readonly watchdogLostAfterMs: number
  /** All open incidents: troubles of those that were not looked at still cover. */
  readonly open: readonly Incident[]
}

export interface Finding extends Trouble {
  /** The subject of the larger trouble that explains it. */
  readonly coveredBy: string | undefined
  /** False: it holds, but not yet for long enough to open an incident. */
  readonly ripe: boolean
  /** How long before the reading the evidence was taken, milliseconds. */
  readonly observedAgoMs: number
}

export interface Diagnosis {
  readonly findings: readonly Finding[]
  /** The supervisors and queues of which enough is known to judge them. */
  readonly supervisors: ReadonlyMap<string, SeenBeat>
  readonly queues: ReadonlyMap<string, QueueEvidence>
  /** Supervisors whose record cannot be parsed, and why: set aside, never judged. */
  readonly setAside: ReadonlyMap<string, string>
}

export function diagnose(evidence: Evidence): Diagnosis {
  if (evidence.sight.judges === 'none') {
    return { findings: [], supervisors: new Map(), queues: new Map(), setAside: new Map() }
  }
  const setAside = new Map<string, string>()
  const supervisors = new Map<string, SeenBeat>()
  for (const seen of evidence.supervisors) {
    if (seen.broken !== undefined) setAside.set(seen.supervisor, seen.broken)
    else if (isKnown(seen, evidence.sight)) supervisors.set(seen.supervisor, seen)
  }
  const ofSupervisors: Finding[] = []
  for (const seen of supervisors.values()) {
    try {
      ofSupervisors.push(...troublesOf(seen))
    } catch (error) {
      // JSON, but not of a beat: one garbled record must not blind the watchdog for all others.
      supervisors.delete(seen.supervisor)
      setAside.set(seen.supervisor, `not the form of a beat: ${messageOf(error)}`)
    }
  }
  const all = evidence.sight.judges === 'all'
  const queues = new Map(all ? evidence.queues.map((queue) => [queue.facts.queue, queue]) : [])
  const explaining = [...ofSupervisors, ...evidence.open.filter((incident) => !supervisors.has(incident.supervisor ?? ''))]
  const ofQueues = [...queues.values()].flatMap((queue) => queueFinding(queue, explaining, evidence.open))
  return { findings: [...ofSupervisors, ...ofQueues, ...(all ? lostWatchdogs(evidence) : [])], supervisors, queues, setAside }
}

/** Dead by silence: the deadline is past and nobody said goodbye. */
export function isDead(seen: SeenBeat): boolean {
  return !seen.bye && seen.overdueMs > 0
}

/** Just after a start silence proves nothing: only a goodbye, or a beat that came since, says something. */
function isKnown(seen: SeenBeat, sight: Sight): boolean {
  return sight.judges === 'all' || seen.bye || (seen.incarnation !== undefined && seen.ageMs < sight.clearForMs)
}

function troublesOf(seen: SeenBeat): Finding[] {
  if (seen.bye) return []
  if (isDead(seen)) return [deadProcess(seen)]
  if (!seen.beat) return []
  const late = lateIn(seen.beat)
  const stale = new Set(
    late.filter((one) => one.cause === 'poll_stale' || one.cause === 'never_polled').map((one) => one.subject),
  )
  return late
    .filter((one) => !(one.cause === 'lock_late' && stale.has(one.subject)))
    .map((one) => partFinding(seen, one, coverOf(one, late)))
}

function deadProcess(seen: SeenBeat): Finding {
  return {
    subjectKind: 'process',
    subject: subjectOf.process(seen.supervisor),
    cause: 'process_dead',
    ageMs: seen.ageMs,
    thresholdMs: Math.max(0, seen.ageMs - seen.overdueMs),
    supervisor: seen.supervisor,
    ...(seen.incarnation === undefined ? {} : { incarnation: seen.incarnation }),
    ...(seen.beat?.group === undefined ? {} : { group: seen.beat.group }),
    serves: servedBy(seen),
    coveredBy: undefined,
    ripe: true,
    observedAgoMs: 0,
  }
}

const servedBy = (seen: SeenBeat): string[] => seen.beat?.queues.map((queue) => queue.queue) ?? []

/** Within one supervisor: the blocked main loop covers loops and the jobs that run on it, a blocked thread its jobs. */
function coverOf(part: Late, late: readonly Late[]): string | undefined {
  if (part.kind === 'loop' || part.onMain) return late.find((other) => other.kind === 'event_loop')?.subject
  if (part.kind !== 'job') return undefined
  return late.find((other) => other.kind === 'thread' && other.queue === part.queue && other.thread === part.thread)?.subject
}

function partFinding(seen: SeenBeat, late: Late, coveredBy: string | undefined): Finding {
  const serves =
    late.kind === 'event_loop' ? servedBy(seen) : late.kind === 'loop' && late.queue !== undefined ? [late.queue] : undefined
  const { queue, phase, jobId, attempt, step, stepMs } = late
  const place = seen.beat?.dumps ? placeOf(late) : undefined
  return {
    subjectKind: late.kind,
    subject: late.subject,
    cause: late.cause,
    ageMs: Math.round(late.ageMs),
    thresholdMs: late.thresholdMs,
    supervisor: seen.supervisor,
    ...(seen.incarnation === undefined ? {} : { incarnation: seen.incarnation }),
    ...(queue === undefined ? {} : { queue }),
    ...(phase === undefined ? {} : { phase }),
    ...(jobId === undefined ? {} : { jobId }),
    ...(attempt === undefined ? {} : { attempt }),
    ...(step === undefined ? {} : { step }),
    ...(stepMs === undefined ? {} : { stepMs: Math.round(stepMs) }),
    ...(serves === undefined ? {} : { serves }),
    ...(place === undefined ? {} : { place }),
    coveredBy,
    ripe: true,
    observedAgoMs: seen.ageMs,
  }
}

/** Loops run on the main thread; a job that no thread has begun, or that has a process of its own, cannot be looked at. */
function placeOf({ kind, queue, thread, onMain }: Late): DumpPlace | undefined {
  if (kind === 'event_loop' || kind === 'loop' || onMain) return 'main'
  return queue === undefined || !thread ? undefined : { queue, thread }
}

/** One finding at most: what is open and still holds, else the gravest that has held for long enough. */
function queueFinding(evidence: QueueEvidence, explaining: readonly Trouble[], open: readonly Incident[]): Finding[] {
  const queue = evidence.facts.queue
  const subject = subjectOf.queue(queue)
  const incident = open.find((one) => one.subject === subject)
  const ripe = (condition: QueueCondition) => condition.heldMs > condition.thresholdMs
  const condition = evidence.conditions.find(ripe) ?? evidence.conditions.find((one) => one.cause === incident?.cause)
  if (!condition) return []
  return [
    {
      subjectKind: 'queue',
      subject,
      cause: condition.cause,
      ageMs: Math.round(condition.heldMs),
      thresholdMs: condition.thresholdMs,
      queue,
      ...(condition.scheduler === undefined ? {} : { phase: `scheduler ${condition.scheduler}` }),
      coveredBy: explaining.find((trouble) => explains(trouble, queue, condition))?.subject,
      ripe: ripe(condition),
      observedAgoMs: 0,
    },
  ]
}

function explains(trouble: Trouble, queue: string, condition: QueueCondition): boolean {
  if (!trouble.serves?.includes(queue)) return false
  if (trouble.cause === 'process_dead') return true
  // A live process with a wedged loop still counts as eligible: its absence is another trouble.
  return condition.cause !== 'no_eligible_worker' && trouble.cause !== 'lock_late'
}

function lostWatchdogs({ watchdogs, watchdogLostAfterMs }: Evidence): Finding[] {
  return watchdogs
    .filter(({ silentMs }) => silentMs > watchdogLostAfterMs)
    .map(({ id, silentMs }) => ({
      subjectKind: 'watchdog',
      subject: subjectOf.watchdog(id),
      cause: 'watchdog_lost',
      ageMs: silentMs,
      thresholdMs: watchdogLostAfterMs,
      coveredBy: undefined,
      ripe: true,
      observedAgoMs: 0,
    }))
}

/** Incidents and transitions: what is kept of a stay in STUCK, and the port through which it is kept. Pure types and rules. */
import type { Cause, SubjectKind } from '../heartbeat/beat.js'
import type { DumpNote, DumpPlace } from './dump-note.js'

export const OUTCOMES = ['recovered', 'drained', 'superseded', 'stopped', 'cancelled', 'replaced', 'gone'] as const
export type Outcome = (typeof OUTCOMES)[number]

/** What is known of a trouble when it is found. Never job data. */
export interface Trouble {
  readonly subjectKind: SubjectKind
  readonly subject: string
  readonly cause: Cause
  readonly ageMs: number
  readonly thresholdMs: number
  readonly queue?: string
  readonly supervisor?: string
  readonly incarnation?: string
  /** Of a dead process: the label that its last beat bore. */
  readonly group?: string
  /** What it does, with its age: `step charge`, `moveToActive`. */
  readonly phase?: string
  readonly jobId?: string
  readonly attempt?: number
  readonly step?: string
  readonly stepMs?: number
  /** Where it can be looked at, when its supervisor takes dumps. */
  readonly place?: DumpPlace
  /** The queues that a troubled process, event loop or fetch loop serves: their standstill is explained by it. */
  readonly serves?: readonly string[]
}

/** One stay in STUCK. */
export interface Incident extends Trouble {
  /** Grows with each transition; the number of the STUCK transition. */
  readonly seq: number
  readonly openedAtRedisMs: number
  readonly incidentId: string
  /** Wall clock by Redis TIME at which the trouble began, ISO 8601. */
  readonly since: string
  readonly watchdogId: string
  /** How often it was seen, and when last (Redis TIME); written every few seconds at most. */
  readonly count: number
  readonly lastAtRedisMs: number
  /** Flapping: it stays open until it has been calm for a while. */
  readonly held: boolean
  /** Held only: since when (Redis TIME) it is calm. */
  readonly calmSinceRedisMs?: number
  /** The stack dump that was taken when it opened, and the place in the job's own code that it shows. */
  readonly dumpId?: string
  readonly topFrame?: string
  /** Held only: how often it came back, each of which would have been a RESUMED and a STUCK line. */
  readonly heldBack: number
}

/** An incident as its finder proposes it; the store adds the number, the time and whether it flaps. */
export type IncidentDraft = Omit<
  Incident,
  'seq' | 'openedAtRedisMs' | 'lastAtRedisMs' | 'held' | 'heldBack' | 'calmSinceRedisMs'
>

export type Transition =
  | { readonly seq: number; readonly at: number; readonly event: 'stuck'; readonly incident: Incident }
  | {
      readonly seq: number
      readonly at: number
      readonly event: 'flapping'
      readonly incident: Incident
      readonly openings: number
    }
  | {
      readonly seq: number
      readonly at: number
      readonly event: 'resumed'
      readonly incident: Incident
      readonly outcome: Outcome
      readonly durationMs: number
    }

/** The store of incidents. Every change is a compare-and-set: of any number of watchdogs one wins and writes the line. */
export interface Incidents {
  /**
   * Opens one incident for a subject. That of a process_dead counts a death in its group.
   * @param asOf the number of the last transition that the finder knew of: a finding older than a later change of the
   *   same subject is refused
   * @returns the transitions to write; empty: another won
   */
  open(draft: IncidentDraft, asOf: number): Promise<readonly Transition[]>
  /** Closes it, if it is still the open one of its subject. A dead process that lives again brings its group back. */
  close(incident: Incident, outcome: Outcome): Promise<readonly Transition[]>
  /** Changes the record of an open incident, if nobody changed it since it was read. */
  update(from: Incident, to: Incident): Promise<boolean>
  /** Writes into an open incident which dump was taken of it. */
  note(incident: Incident, note: DumpNote): Promise<void>
  /** Adds a finished incident of one watchdog alone (redis_unreachable); its lines are written already. */
  record(transitions: readonly Transition[]): Promise<void>
  /** The line is written. */
  said(transition: Transition): Promise<void>
  /** Takes over transitions whose winner has not written them in time. */
  claimUnsaid(): Promise<readonly Transition[]>
  /** Puts back incidents that a store lost with its memory, so that each still ends once. */
  restore(incidents: readonly Incident[]): Promise<void>
  listOpen(): Promise<readonly Incident[]>
  /** The newest transitions, newest first. */
  recent(limit: number): Promise<readonly Transition[]>
}

/** How long the winner has to write the line before another watchdog does, milliseconds. */
export const SAY_WITHIN_MS = 2000

/** More openings of one subject than this in the window are flapping. */
export const FLAPPING_OPENINGS = 5
export const FLAPPING_WINDOW_MS = 600_000
/** How long a held subject must be calm before it is resumed. */
export const FLAPPING_CALM_MS = 60_000

/** From a transition to its log line. Pure. Job data and environment are no part of an incident, so they cannot appear here. */
import type { Incident, Transition } from './incident.js'

/** Where lines go; a pino logger is one. */
export interface LineLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export interface Line {
  readonly level: 'info' | 'warn'
  readonly fields: Readonly<Record<string, string | number>>
  readonly message: string
}

/** @param watchdogId who writes the line: not always who opened the incident */
export function lineOf(transition: Transition, watchdogId: string): Line {
  const { incident } = transition
  const fields = { event: transition.event, ...fieldsOf(incident), seq: transition.seq, watchdogId }
  switch (transition.event) {
    case 'stuck':
      return {
        level: 'warn',
        fields,
        message: `STUCK ${incident.subject}: ${incident.cause} for ${age(incident.ageMs)}${whereabouts(incident)}`,
      }
    case 'flapping': {
      const { openings } = transition
      const message = `FLAPPING ${incident.subject}: ${incident.cause} ${openings} times in 10 min, held until it is calm`
      return { level: 'warn', fields: { ...fields, openings }, message }
    }
    case 'resumed': {
      const { outcome, durationMs } = transition
      const held = incident.held ? { heldBack: incident.heldBack } : {}
      const message = `RESUMED ${incident.subject} after ${age(durationMs)}${ending(transition.outcome, incident)}`
      return { level: 'info', fields: { ...fields, durationMs, outcome, ...held }, message }
    }
  }
}

function fieldsOf(incident: Incident): Record<string, string | number> {
  const { incidentId, subjectKind, subject, queue, supervisor, incarnation, cause, since, ageMs, thresholdMs } = incident
  const { phase, jobId, attempt, step, dumpId, topFrame } = incident
  const all = {
    incidentId,
    subjectKind,
    subject,
    queue,
    supervisor,
    incarnation,
    cause,
    since,
    ageMs,
    thresholdMs,
    phase,
    jobId,
    attempt,
    step,
    dumpId,
    topFrame,
  }
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string | number] => entry[1] !== undefined))
}

/** `, in step charge (12 s)`, with the job where the subject does not name it; nothing when it is not known. */
function whereabouts(incident: Incident): string {
  return `${doing(incident)}${incident.topFrame === undefined ? '' : `, at ${incident.topFrame}`}`
}

function doing({ subjectKind, phase, stepMs, jobId, attempt }: Incident): string {
  const job = jobId === undefined || subjectKind === 'job' ? '' : ` of job ${jobId}`
  const tried = attempt === undefined || attempt < 2 ? '' : `, attempt ${attempt}`
  if (phase === undefined || phase === '') return job === '' ? tried : `, in job ${jobId}${tried}`
  return `, in ${phase}${stepMs === undefined ? '' : ` (${age(stepMs)})`}${job}${tried}`
}

function ending(outcome: string, incident: Incident): string {
  const held = incident.held && incident.heldBack > 0 ? `, ${incident.heldBack} more held back` : ''
  return `${outcome === 'recovered' ? '' : ` (${outcome})`}${held}`
}

/** A duration for people: `850 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`. */
export function age(ms: number): string {
  if (Math.round(ms) < 1000) return `${Math.round(ms)} ms`
  const seconds = Math.max(1, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return two(minutes, 'min', seconds % 60, 's')
  return two(Math.floor(minutes / 60), 'h', minutes % 60, 'min')
}

function two(large: number, unit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smallUnit}`
}

/**
 * The one banner: red (something is wedged) over amber (something is stuck) over "status unknown". Pure.
 *
 * An incident that was dismissed says nothing more; a new one shows again. That nothing is known cannot be dismissed:
 * the page must never look calm because nobody answers.
 */
import { causeOf } from './text.js'

const RED_KINDS = new Set(['process', 'event_loop', 'loop'])
/** What says that nothing can be said, rather than that something is stuck. */
const UNKNOWING = new Set(['redis_unreachable', 'watchdog_blind'])
const POLLING = new Set(['poll_stale', 'never_polled'])

const MINUTE_MS = 60_000
const HOUR_MS = 3_600_000

/**
 * @typedef {{incidentId: string, subjectKind: string, subject: string, cause: string, since: string, supervisor?: string,
 *   queue?: string, jobId?: string, phase?: string, dumpId?: string, topFrame?: string}} BannerIncident
 * @typedef {{status: string, incidents: readonly BannerIncident[], lastPollCompletedAt?: string, error?: string}} BannerHealth
 * @typedef {{level: 'wedged' | 'stuck' | 'unknown', label: string, text: string, hint: string,
 *   incident?: BannerIncident, more: number, doubt?: string}} Banner
 */

/**
 * @param {BannerHealth | undefined} health undefined: no answer
 * @param {{dismissed: ReadonlySet<string>, nowMs: number}} view incident ids, and the time by the server's clock
 * @returns {Banner | undefined} undefined when there is nothing to say
 */
export function bannerOf(health, { dismissed, nowMs }) {
  if (!health) return unknown('the watchdog does not answer this page')
  const shown = health.incidents.filter(({ incidentId, cause }) => !dismissed.has(incidentId) && !UNKNOWING.has(cause))
  const red = shown.filter(({ subjectKind }) => RED_KINDS.has(subjectKind))
  const amber = shown.filter(({ subjectKind }) => !RED_KINDS.has(subjectKind))
  const doubt = health.status === 'unknown' ? (health.error ?? 'the watchdog judges nobody now') : undefined
  const [first] = red.length > 0 ? red : amber
  if (!first) return doubt === undefined ? undefined : unknown(doubt)
  const cause = causeOf(first)
  return {
    level: red.length > 0 ? 'wedged' : 'stuck',
    label: red.length > 0 ? 'Wedged' : 'Stuck',
    text: `${cause.says(first)} ${forHowLong(first, health, nowMs)}${first.phase ? `, in ${first.phase}` : ''}.`,
    hint: cause.hint,
    incident: first,
    more: shown.length - 1,
    ...(doubt === undefined ? {} : { doubt }),
  }
}

/** @param {string} reason @returns {Banner} */
function unknown(reason) {
  return {
    level: 'unknown',
    label: 'Status unknown',
    text: `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`,
    hint: 'What is shown below may be out of date. Jobs go on without the watchdog; look whether it and Redis are running.',
    more: 0,
  }
}

/** A loop that never ended a poll has no moment to count from. */
function forHowLong(incident, health, nowMs) {
  if (POLLING.has(incident.cause) && health.lastPollCompletedAt === undefined) return 'for a while'
  return forOver(nowMs - Date.parse(incident.since))
}

/** `for a while`, `for over 1 minute`, `for over 2 minutes`, `for over 3 hours`. @param {number} ms */
export function forOver(ms) {
  if (!(ms >= MINUTE_MS)) return 'for a while'
  const [count, unit] = ms < 2 * HOUR_MS ? [Math.floor(ms / MINUTE_MS), 'minute'] : [Math.floor(ms / HOUR_MS), 'hour']
  return `for over ${count} ${unit}${count === 1 ? '' : 's'}`
}

/** Dismissals of incidents that are over need not be remembered. */
export function keptDismissals(dismissed, health) {
  const open = new Set(health.incidents.map(({ incidentId }) => incidentId))
  return new Set([...dismissed].filter((id) => open.has(id)))
}

/** Words for people: durations, causes, states. Pure. */

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** `820 ms`, `12 s`, `3 min`, `2 h 5 min`, `3 d 4 h`. @param {number | undefined} ms */
export function duration(ms) {
  if (ms === undefined || !Number.isFinite(ms)) return '–'
  if (ms < SECOND) return `${Math.max(0, Math.round(ms))} ms`
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min${rest(ms % MINUTE, SECOND, 's', ms < 10 * MINUTE)}`
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h${rest(ms % HOUR, MINUTE, 'min')}`
  return `${Math.floor(ms / DAY)} d${rest(ms % DAY, HOUR, 'h')}`
}

function rest(ms, unit, name, isShown = true) {
  const count = Math.floor(ms / unit)
  return isShown && count > 0 ? ` ${count} ${name}` : ''
}

/** `1 job`, `1 204 jobs`. @param {number} count @param {string} noun */
export function counted(count, noun, nouns = `${noun}s`) {
  return `${number(count)} ${count === 1 ? noun : nouns}`
}

/** Groups of three, with a thin space that does not break. @param {number} value */
export function number(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, '\u202f')
}

/** Local time of day, with the date when it is not today. @param {string | number | undefined} time */
export function clock(time, now = new Date()) {
  if (time === undefined) return '–'
  const date = new Date(time)
  const ofDay = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })
  if (date.toDateString() === now.toDateString()) return ofDay
  return `${date.toLocaleDateString([], { day: 'numeric', month: 'short' })} ${ofDay}`
}

/** @param {{subjectKind?: string, supervisor?: string, queue?: string, subject: string}} incident */
function loopOf({ subject, queue, supervisor }) {
  const which = subject.includes('/loop:reconcile') ? 'reconcile loop' : `fetch loop${queue ? ` for queue ${queue}` : ''}`
  return `The ${which} of supervisor ${supervisor ?? subject}`
}

const jobOf = ({ queue, jobId, subject }) => (jobId ? `Job ${queue ? `${queue}/` : ''}${jobId}` : subject)
const threadOf = ({ subject, queue, supervisor }) => {
  const place = /thread:.*:(\d+)$/.exec(subject)?.[1]
  return place ? `Thread ${place} of queue ${queue} on supervisor ${supervisor}` : subject
}

/**
 * Each cause as a sentence that "for over 2 minutes" can follow, what it means, and what to do about it.
 * docs/operations.md says more.
 */
export const CAUSES = {
  process_dead: {
    short: 'process is dead',
    says: ({ supervisor, subject }) => `Supervisor ${supervisor ?? subject} has given no sign of life`,
    hint: 'Look at its host and at its last log lines, and start it again under the same name. Its jobs run elsewhere already.',
  },
  loop_blocked: {
    short: 'main event loop is blocked',
    says: ({ supervisor, subject }) => `The main event loop of supervisor ${supervisor ?? subject} has not turned`,
    hint: 'Nothing new is taken there; jobs in threads go on. Look at the dump, and restart it if it does not come back.',
  },
  poll_stale: {
    short: 'loop hangs',
    says: (incident) => `${loopOf(incident)} has not completed a poll`,
    hint: 'Most often a reply that Redis or a proxy swallowed. Look at the network between the two; if it stays, restart the supervisor: its jobs are handed back.',
  },
  never_polled: {
    short: 'loop has never polled',
    says: (incident) => `${loopOf(incident)} has started and not completed a poll`,
    hint: 'Its start-up or its first connection to Redis hangs. Look at its log, and restart it.',
  },
  lock_late: {
    short: 'locks are renewed late',
    says: ({ supervisor, subject }) => `Supervisor ${supervisor ?? subject} has not renewed the locks of its jobs`,
    hint: "Nothing is lost, but another program's BullMQ worker could run these jobs twice: turn its stalled check off.",
  },
  thread_blocked: {
    short: 'thread is blocked',
    says: (incident) => `${threadOf(incident)} has been blocked`,
    hint: 'An endless loop, a regular expression that explodes, or synchronous I/O. The dump names the line.',
  },
  job_silent: {
    short: 'job is silent',
    says: (incident) => `${jobOf(incident)} has shown no progress`,
    hint: 'It awaits something that does not come. The step and the dump say where; cancel it, or raise silentAfterMs if this is normal.',
  },
  launch_overdue: {
    short: 'launch is overdue',
    says: (incident) => `${jobOf(incident)} has been launching without a sign of life`,
    hint: 'The phase says how far the launch came. It is undone and tried again by itself.',
  },
  no_eligible_worker: {
    short: 'no supervisor serves it',
    says: ({ queue, subject }) => `Queue ${queue ?? subject} has had jobs and no supervisor to run them`,
    hint: 'Start a supervisor for this queue, or see why those that serve it are draining or dead.',
  },
  queue_not_moving: {
    short: 'queue does not move',
    says: ({ queue, subject }) => `Queue ${queue ?? subject} has had jobs and free slots, and taken nothing`,
    hint: 'Look at rate limits and at the loops of its supervisors. Open a waiting job: it says why it does not run.',
  },
  scheduler_overdue: {
    short: 'scheduler is overdue',
    says: ({ queue, subject }) => `A job scheduler of queue ${queue ?? subject} has been overdue`,
    hint: 'Upsert the scheduler again.',
  },
  redis_unreachable: {
    short: 'Redis does not answer',
    says: () => 'Redis has not answered this watchdog',
    hint: 'All verdicts are suspended; nothing is reset or killed. Running jobs go on, and end when Redis is back.',
  },
  watchdog_blind: {
    short: 'watchdog cannot judge',
    says: () => 'This watchdog has been unable to judge',
    hint: 'It was paused, clocks jumped, or the store lost its memory. It judges again after one quiet interval.',
  },
  watchdog_lost: {
    short: 'watchdog is lost',
    says: ({ subject }) => `The watchdog ${subject.replace(/^watchdog:/, '')} has been silent`,
    hint: 'Start it again: with one watchdog fewer, nobody watches the watchers.',
  },
}

/** `f (/srv/app/src/mail/send.mjs:3)` as `f (mail/send.mjs:3)`: what tells files apart in a narrow row. @param {string} place */
export function shortPlace(place) {
  return place.replace(/\((?:file:\/\/)?\/(?:[^()/]+\/)*([^()/]+\/[^()/]+)\)/, '($1)')
}

/** A cause that a newer watchdog knows and this page does not is still shown. */
export function causeOf(incident) {
  return (
    CAUSES[incident.cause] ?? {
      short: String(incident.cause).replaceAll('_', ' '),
      says: () => `${incident.subject}: ${String(incident.cause).replaceAll('_', ' ')}`,
      hint: 'docs/operations.md says what this cause means.',
    }
  )
}

export const OUTCOMES = {
  recovered: 'recovered by itself',
  drained: 'ran empty',
  superseded: 'explained by a larger trouble',
  stopped: 'stopped on purpose',
  cancelled: 'its job was cancelled',
  replaced: 'replaced by a new process or thread',
  gone: 'gone, and given up',
}

export const DUMP_CLASSES = {
  running: 'running JavaScript',
  storm: 'drowning in microtasks: its event loop does not turn',
  awaiting: 'awaiting: nothing is on the stack, a promise has not settled',
  native: 'in native code, which no JavaScript stack shows',
  parked: 'idle',
  unseen: 'could not be seen',
}

/** Incidents and measurements of queues, unremarkable unless a test says otherwise. */
import type { QueueFacts } from '../../src/heartbeat/queue-facts.js'
import type { Incident } from '../../src/watchdog/incident.js'

export function factsOf(changes: Partial<QueueFacts> = {}): QueueFacts {
  return {
    queue: 'img',
    waiting: 0,
    active: 0,
    delayed: 0,
    completed: 0,
    failed: 0,
    exhausted: 0,
    permanent: 0,
    breakersOpen: [],
    paused: false,
    limitedMs: 0,
    maxed: false,
    head: undefined,
    headAgeMs: undefined,
    overdueSchedulers: [],
    eligible: 1,
    free: 1,
    ...changes,
  }
}

export function incidentOf(changes: Partial<Incident> = {}): Incident {
  return {
    incidentId: 'i1',
    seq: 1,
    openedAtRedisMs: 1_700_000_000_000,
    lastAtRedisMs: 1_700_000_000_000,
    subjectKind: 'job',
    subject: 'job:img/17',
    cause: 'job_silent',
    ageMs: 300_001,
    thresholdMs: 300_000,
    since: '2023-11-14T22:13:20.000Z',
    watchdogId: 'w1',
    count: 1,
    held: false,
    heldBack: 0,
    ...changes,
  }
}

/**
 * What the API takes and gives, as JSON Schema: bodies, parameters and queries are held to it, answers are described by
 * it (a test holds the one to the other). OpenAPI is made from it.
 */
import { JOB_STATUSES, MAX_LISTED } from '../dispatch/job-list.js'
import { CAUSES, LOOP_STATES, SUBJECT_KINDS } from '../heartbeat/beat.js'
import { OUTCOMES } from '../watchdog/incident.js'

type Schema = Readonly<Record<string, unknown>>
type Fields = Readonly<Record<string, Schema>>

export const text = { type: 'string' }
export const count = { type: 'integer', minimum: 0 }
export const flag = { type: 'boolean' }
const whole = { type: 'integer' }
const number = { type: 'number' }
const time = { type: 'string', format: 'date-time' }
export const listOf = (items: Schema) => ({ type: 'array', items })
const oneOf = (words: readonly string[]) => ({ type: 'string', enum: words })

/** @param perhaps fields that are left out when they do not apply */
export function record(fields: Fields, perhaps: Fields = {}) {
  return { type: 'object', required: Object.keys(fields), properties: { ...fields, ...perhaps } }
}

/** The same, and nothing else may be in it. */
function only(fields: Fields, perhaps: Fields = {}) {
  return { ...record(fields, perhaps), additionalProperties: false }
}

/** An order's body may be left out. */
function orderBody(fields: Fields) {
  return { ...only({}, fields), type: ['object', 'null'] }
}

const error = { ...record({ error: record({ code: text, message: text }) }), description: 'What is wrong, and the fix' }

/** The answers of a route: its own, and what goes wrong on all of them. */
export function answers(description: string, answer: Schema, status = 200) {
  return { [status]: { ...answer, description }, '4xx': error, 503: { ...error, description: 'Redis did not answer in time' } }
}

const jobFields = {
  ...{ id: text, queue: text, name: text, status: oneOf(JOB_STATUSES) },
  ...{ attemptsMade: count, attemptsMax: count, resets: count, fence: count, reason: text },
}
const perhapsOfJob = {
  ...{ lastError: text, lastFailureAt: time, retryAt: time, cooldownUntil: time, group: text },
  ...{ supervisor: text, slot: count, step: text, heartbeatAgeMs: number, ahead: count },
}

export const listedJob = record(jobFields, perhapsOfJob)
export const job = record({ ...jobFields, why: text }, { ...perhapsOfJob, output: text })

const loop = record(
  {
    ...{ loop: oneOf(['fetch', 'reconcile']), state: oneOf(LOOP_STATES), phase: text, inFlight: flag, cycles: count },
    ...{ skipped: count, lagMs: number, thresholdMs: number, stale: flag },
  },
  { queue: text, lastStartedAt: time, lastEndedAt: time },
)
const runningJob = record(
  { queue: text, id: text, attempt: count, thread: count, runningMs: number, silentMs: number },
  { launching: flag, step: text, stepMs: number },
)
const slot = record({ queue: text, size: count, busy: count, eligible: flag })
const supervisorStates = ['starting', 'running', 'draining', 'stopped', 'dead', 'unreadable']

export const supervisor = record(
  {
    ...{ name: text, state: oneOf(supervisorStates), heartbeatAgeMs: number },
    ...{ loops: listOf(loop), slots: listOf(slot), jobs: listOf(runningJob) },
  },
  { incarnation: text, group: text, host: text, pid: whole, version: text, uptimeMs: number },
)

export const queue = record(
  {
    ...{ queue: text, waiting: count, active: count, delayed: count, completed: count, failed: count, exhausted: count },
    ...{ permanent: count, breakersOpen: listOf(text), paused: flag, limitedMs: number, maxed: flag },
    ...{ overdueSchedulers: listOf(text), eligible: count, free: count },
  },
  { head: text, headAgeMs: number },
)

const incidentFields = {
  ...{ incidentId: text, seq: whole, subjectKind: oneOf(SUBJECT_KINDS), subject: text, cause: oneOf(CAUSES), since: time },
  ...{ ageMs: number, thresholdMs: number, openedAtRedisMs: number, lastAtRedisMs: number, watchdogId: text, count },
  ...{ held: flag, heldBack: count },
}
const perhapsOfIncident = {
  ...{ queue: text, supervisor: text, incarnation: text, group: text, phase: text, jobId: text, attempt: count, step: text },
  ...{ stepMs: number, place: {}, serves: listOf(text), calmSinceRedisMs: number, dumpId: text, topFrame: text },
}
const ofEnded = { outcome: oneOf(OUTCOMES), durationMs: number, endedAt: time }

export const incident = record({ ...incidentFields, open: flag }, { ...perhapsOfIncident, ...ofEnded })

export const health = record(
  {
    ...{
      status: oneOf(['ok', 'stuck', 'wedged', 'unknown']),
      pollStale: flag,
      hasStuckQueue: flag,
      pollStaleThresholdMs: number,
    },
    queues: listOf(
      record({
        ...{ name: text, waiting: count, active: count, eligible: count, stuck: flag, exhausted: count },
        breakersOpen: listOf(text),
      }),
    ),
    supervisors: listOf(record({ name: text, state: oneOf(supervisorStates), heartbeatAgeMs: number })),
    incidents: listOf(record(incidentFields, perhapsOfIncident)),
  },
  { lastPollStartedAt: time, lastPollCompletedAt: time, error: text },
)

const frame = record({ fn: text }, { file: text, line: whole, column: whole, async: flag, internal: flag })
const dumpSubject = {
  anyOf: [{ const: 'main' }, record({ queue: text, number: count, generation: count, threadId: whole })],
}

export const dump = record(
  {
    ...{ id: text, at: number, subject: dumpSubject, tookMs: number, notes: listOf(text) },
    class: oneOf(['running', 'storm', 'awaiting', 'native', 'parked', 'unseen']),
    samples: listOf(record({ atMs: number, frames: listOf(frame) })),
    steps: listOf(record({ name: text, ageMs: number }, { enteredAt: frame, job: text })),
  },
  {
    ...{ supervisor: text, incarnation: text, resources: listOf(text), suspended: listOf(record({ frames: listOf(frame) })) },
    kernel: { type: 'object', description: 'What the kernel says of the thread' },
  },
)

/** Parameters in the address. */
export const params = {
  queue: record({ queue: { ...text, description: 'A queue' } }),
  job: record({ queue: { ...text, description: 'A queue' }, id: { ...text, description: 'A job id, percent-encoded' } }),
  supervisor: record({ id: { ...text, description: 'The name of a supervisor' } }),
  dump: record({ id: { ...text, description: 'The id of a dump' } }),
}

export const queries = {
  found: only(
    { id: { ...text, minLength: 1, description: 'A job id' } },
    { queue: { ...text, description: 'Only in this one' } },
  ),
  /** Not closed: who adds something to get past a cache is answered all the same. */
  job: record(
    {},
    { id: { ...text, minLength: 1, description: 'The job id, for `.` and `..`, which an address does not keep; it wins' } },
  ),
  jobs: only(
    {},
    {
      status: oneOf(JOB_STATUSES),
      limit: { type: 'integer', minimum: 1, maximum: MAX_LISTED, default: 50 },
      cursor: { type: 'string', maxLength: 8000, description: 'What the page before gave' },
    },
  ),
  incidents: only(
    {},
    {
      open: { ...flag, description: 'true: only the open ones' },
      limit: { type: 'integer', minimum: 1, maximum: 1000, description: 'Default: 50, or all the open ones if there are more' },
    },
  ),
}

/** One call adds so many jobs at most. */
export const MAX_ADDED = 1000

const jobInput = {
  name: { ...text, minLength: 1, description: "Default: the queue's name" },
  data: { description: 'Anything. Default: {}' },
  jobId: { ...text, description: 'An own id: one that exists is not added again' },
  group: { ...text, minLength: 1 },
  priority: { type: 'integer', minimum: 1, maximum: 2_097_152 },
  delay: { type: 'integer', minimum: 0, description: 'Milliseconds' },
  attempts: { type: 'integer', minimum: 1, maximum: 1_000_000 },
}
const reason = { ...text, description: 'Why, for the audit; at most 500 characters' }
const dryRun = { ...flag, description: 'Says what would happen, or refuses, and changes nothing' }

export const bodies = {
  jobs: only({}, { ...jobInput, jobs: { ...listOf(only({}, jobInput)), minItems: 1, maxItems: MAX_ADDED } }),
  order: orderBody({ reason, dryRun }),
  bulkReset: orderBody({
    group: { ...text, description: "Only this group's; an empty text means jobs without one" },
    failed: { ...flag, description: 'Those that failed for good too' },
    ...{ reason, dryRun },
  }),
  drain: orderBody({ dryRun }),
  dump: orderBody({
    thread: { ...text, description: '`main`, or `QUEUE:N`. Default: all' },
    deep: { ...flag, description: 'Finds suspended async functions too; the thread stands still for it' },
  }),
}

/** A fleet as an operator may find it: a bit of everything, good and bad. */
import { makeIncident, makeJob, makeLoop, makeQueue, makeSupervisor, type World } from './fake-api.js'

export function busyWorld(): Partial<World> {
  const inFuture = (ms: number) => new Date(Date.now() + ms).toISOString()
  const wedge = makeIncident({
    ...{ cause: 'poll_stale', subjectKind: 'loop', subject: 'supervisor:beta/loop:fetch:mail', ageMs: 125_000 },
    ...{
      supervisor: 'beta',
      queue: 'mail',
      phase: 'moveToActive',
      dumpId: 'dump-1',
      topFrame: 'chargeCustomer (charge.mjs:42)',
    },
  })
  const stuck = makeIncident({
    ...{ cause: 'no_eligible_worker', subjectKind: 'queue', subject: 'queue:images', ageMs: 300_000, queue: 'images', seq: 2 },
  })
  return {
    supervisors: [
      makeSupervisor('alpha', 'mail', {
        group: 'eu',
        slots: [{ queue: 'mail', size: 4, busy: 2, eligible: true }],
        jobs: [
          { queue: 'mail', id: 'run-1', attempt: 1, thread: 1, runningMs: 4200, silentMs: 300, step: 'render', stepMs: 1200 },
          { queue: 'mail', id: 'run-2', attempt: 3, thread: 2, runningMs: 92_000, silentMs: 900, step: 'send', stepMs: 300 },
        ],
      }),
      makeSupervisor('beta', 'mail', {
        loops: [
          makeLoop('fetch', 'mail', { phase: 'moveToActive', inFlight: true, lagMs: 125_000, stale: true }),
          makeLoop('reconcile'),
        ],
      }),
      makeSupervisor('gamma', 'reports', { state: 'draining' }),
      makeSupervisor('delta', 'reports', { state: 'dead', heartbeatAgeMs: 240_000 }),
    ],
    queues: [
      makeQueue('images', { waiting: 37, head: '1:0', headAgeMs: 300_000, eligible: 0, free: 0 }),
      makeQueue('mail', {
        waiting: 1204,
        active: 2,
        delayed: 2,
        exhausted: 3,
        failed: 4,
        completed: 98_231,
        headAgeMs: 42_000,
      }),
      makeQueue('reports', { waiting: 3, breakersOpen: ['acme', 'zeta'], paused: true, delayed: 12, headAgeMs: 5000 }),
    ],
    incidents: [wedge, stuck],
    past: [
      {
        ...makeIncident({
          cause: 'thread_blocked',
          subjectKind: 'thread',
          subject: 'supervisor:alpha/thread:mail:2',
          ageMs: 9e6,
        }),
        ...{ queue: 'mail', supervisor: 'alpha', open: false, outcome: 'replaced', durationMs: 61_000 },
        endedAt: new Date(Date.now() - 9e6 + 61_000).toISOString(),
      },
    ],
    jobs: [
      ...['exh-1', 'exh-2', 'exh-3'].map((id) =>
        makeJob('mail', id, 'exhausted', {
          ...{ attemptsMade: 8, resets: 1, lastError: 'connect ECONNREFUSED 10.0.0.7:587', lastFailureAt: inFuture(-60_000) },
          ...{ cooldownUntil: inFuture(1_740_000), reason: 'cooldown', fence: 9, group: 'acme' },
          why: 'exhausted after 8 attempts: connect ECONNREFUSED 10.0.0.7:587; is put back by itself (reset 2 of 5)',
        }),
      ),
      makeJob('mail', 'back-1', 'backing-off', {
        ...{ attemptsMade: 3, retryAt: inFuture(95_000), lastError: 'timed out', reason: 'backing_off' },
        why: 'backing off after attempt 3: timed out',
      }),
      makeJob('mail', 'run-1', 'running', {
        ...{ attemptsMade: 0, supervisor: 'alpha', slot: 1, step: 'render', heartbeatAgeMs: 300, reason: 'running', fence: 3 },
        why: 'runs on supervisor alpha for 4.2 s, in step render for 1.2 s; last sign of life 0.3 s ago',
        output: 'cloning…\nbuilding…\n12 of 40 pages\n',
      }),
      ...Array.from({ length: 40 }, (_, at) => makeJob('mail', `wait-${at + 1}`, 'waiting')),
    ],
    dumps: [
      {
        ...{ id: 'dump-1', at: Date.now() - 60_000, supervisor: 'beta', tookMs: 41, class: 'running' },
        subject: { queue: 'mail', number: 1, generation: 1, threadId: 7 },
        samples: [0, 20].map((atMs) => ({
          atMs,
          frames: [
            { fn: 'chargeCustomer', file: '/srv/app/charge.mjs', line: 42, column: 7 },
            { fn: 'default', file: '/srv/app/mail.mjs', line: 11, column: 3 },
            { fn: 'processTicksAndRejections', file: 'node:internal/process/task_queues', line: 105, internal: true },
          ],
        })),
        steps: [{ name: 'charge', ageMs: 61_000, job: 'run-1' }],
        notes: [],
      },
    ],
  }
}

import { describe, expect, it } from 'vitest'
import { type ExplainInput, explain, type JobPlace } from '../../../src/dispatch/explain.js'

const T = Date.UTC(2030, 0, 1)

function setup(place: Partial<JobPlace>, more: Partial<ExplainInput> = {}) {
  const known: JobPlace = {
    ...{ state: 'waiting', now: T, name: 'send', attemptsMade: 0, fence: 1, losses: 0, resets: 0, paused: false },
    ...place,
  }
  const room = { eligible: 1, free: 1, maxed: false, limitedMs: 0 }
  const policy = { max: 8, maxResets: 5, slowRetryMs: 21_600_000 }
  return explain({ queue: 'mail', id: 'j1', place: known, carrier: undefined, room, policy, ...more })
}

const room = (changed: Partial<ExplainInput['room']>) => ({
  room: { eligible: 2, free: 1, maxed: false, limitedMs: 0, ...changed },
})
const carrier = { supervisor: 's1', slot: 2, runningMs: 61_000, silentMs: 2000, step: 'charge', stepMs: 12_000 }
const launching = { ...carrier, slot: 0, step: 'launch workspace', launching: true } as const
const parkedBy = { openedAt: T - 60_000, nextProbeAt: T + 5000, failures: 20 }

describe('explain', () => {
  it.each<[string, string, ReturnType<typeof setup>]>([
    ['not_found', '', setup({ state: 'not_found' })],
    ['completed', 'completed', setup({ state: 'completed' })],
    ['failed', 'failed', setup({ state: 'failed', lastError: 'no such file', attemptsMade: 8 })],
    ['permanent', 'failed', setup({ state: 'failed', kind: 'permanent' })],
    ['waits_for_a_person', 'failed', setup({ state: 'failed', kind: 'poison' })],
    ['cancelled', 'cancelled', setup({ state: 'failed', kind: 'cancelled' })],
    ['cooldown', 'exhausted', setup({ state: 'failed', kind: 'exhausted', cooldownUntil: T })],
    ['running', 'running', setup({ state: 'active' }, { carrier })],
    ['launching', 'launching', setup({ state: 'active' }, { carrier: launching })],
    ['orphaned', 'running', setup({ state: 'active' })],
    ['scheduled', 'scheduled', setup({ state: 'delayed', dueAt: 0 })],
    ['backing_off', 'backing-off', setup({ state: 'delayed', dueAt: 0, attemptsMade: 2 })],
    ['breaker', 'scheduled', setup({ state: 'delayed', dueAt: 0, parkedBy })],
    ['paused', 'waiting', setup({ paused: true }, room({ eligible: 0 }))],
    ['no_worker', 'waiting', setup({}, room({ eligible: 0, free: 0 }))],
    ['concurrency', 'waiting', setup({}, room({ free: 0 }))],
    ['concurrency', 'waiting', setup({}, room({ maxed: true }))],
    ['concurrency', 'waiting', setup({}, room({ limitedMs: 500 }))],
    ['next', 'waiting', setup({ ahead: 0 })],
    ['behind', 'waiting', setup({ ahead: 3 })],
    ['waiting_for_children', 'waiting', setup({ state: 'waiting-children' })],
  ])('C14: gives one reason for every place that a job can be in: %s', (reason, status, explained) => {
    expect(explained.reason).toBe(reason)
    expect('status' in explained ? explained.status : '').toBe(status)
  })

  it.each<[string, string, ReturnType<typeof setup>]>([
    [
      'running',
      'runs on supervisor s1 for 61.0 s, in step charge for 12.0 s; last sign of life 2.0 s ago',
      setup({ state: 'active' }, { carrier }),
    ],
    [
      'launching',
      'its session is started by supervisor s1 since 61.0 s: launch workspace',
      setup({ state: 'active' }, { carrier: launching }),
    ],
    [
      'backing off',
      'backing off until 2030-01-01T00:00:00.000Z after attempt 2: timeout',
      setup({ state: 'delayed', dueAt: T, attemptsMade: 2, lastError: 'timeout' }),
    ],
    [
      'parked',
      'parked, uncharged, while the breaker of group eu is open (since 2029-12-31T23:59:00.000Z, after 20 failed jobs in a row); ' +
        'it runs when a probe succeeds, and the next one goes out at 2030-01-01T00:00:05.000Z',
      setup({ state: 'delayed', parkedBy, group: 'eu' }),
    ],
    [
      'cooling down',
      'exhausted after 8 attempts: no network; is put back at 2030-01-01T00:30:00.000Z (reset 2 of 5)',
      setup({
        state: 'failed',
        kind: 'exhausted',
        attemptsMade: 8,
        resets: 1,
        lastError: 'no network',
        cooldownUntil: T + 1_800_000,
      }),
    ],
    [
      'cooled down',
      'exhausted after 1 attempt: no network; its cooldown is over and it is put back soon (reset 1 of 5)',
      setup({ state: 'failed', kind: 'exhausted', attemptsMade: 1, lastError: 'no network', cooldownUntil: T - 1 }),
    ],
    [
      'poison',
      'stopped, since it lost 4 supervisors or threads, the last one while it ran alone: out of memory; mend its handler, then reset it',
      setup({ state: 'failed', kind: 'poison', losses: 4, lastError: 'out of memory' }),
    ],
    [
      'cancelled',
      'cancelled by ada: no use',
      setup({ state: 'failed', kind: 'cancelled', lastError: 'cancelled by ada: no use' }),
    ],
    [
      'kept from running',
      'waits: every slot of 2 supervisors is taken; behind 1 other job',
      setup({ ahead: 1 }, room({ free: 0 })),
    ],
  ])('says in a sentence why a job is %s', (_, why, explained) => {
    expect(explained.why).toBe(why)
  })

  it('C6: says when only one try at a long interval is left, and what gives all of them again', () => {
    const { why } = setup({ state: 'failed', kind: 'exhausted', attemptsMade: 8, resets: 5, cooldownUntil: T + 1 })
    expect(why).toContain('(one try every 6 h, since 5 resets did not help; a reset by hand gives all of them again)')
  })

  it("C1: shows BullMQ's count of attempts, and the policy's limit where the job names none", () => {
    expect(setup({ attemptsMade: 3 })).toMatchObject({ attemptsMade: 3, attemptsMax: 8 })
    expect(setup({ attemptsMade: 3, attemptsMax: 4 })).toMatchObject({ attemptsMade: 3, attemptsMax: 4 })
  })

  it('shows times that a date cannot say without failing', () => {
    expect(setup({ state: 'delayed', dueAt: Number.MAX_SAFE_INTEGER })).toMatchObject({
      retryAt: '+275760-09-13T00:00:00.000Z',
    })
  })

  it('D12: shows the last output of a session, and who starts it', () => {
    expect(setup({ state: 'active', output: 'cloning' }, { carrier: launching })).toMatchObject({
      output: 'cloning',
      supervisor: 's1',
      step: 'launch workspace',
    })
    expect(setup({ state: 'active' }, { carrier: launching })).not.toHaveProperty('slot')
  })

  it('shows who carries a running job, and nothing of that for any other', () => {
    const shown = { supervisor: 's1', slot: 2, step: 'charge', heartbeatAgeMs: 2000 }
    expect(setup({ state: 'active' }, { carrier })).toMatchObject(shown)
    expect(setup({ state: 'completed' }, { carrier })).not.toHaveProperty('supervisor')
  })
})

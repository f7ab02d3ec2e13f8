import { describe, expect, it } from 'vitest'
import { type ExplainInput, explain, type JobPlace } from '../../../src/dispatch/explain.js'

function setup(place: Partial<JobPlace>, more: Partial<ExplainInput> = {}) {
  const known: JobPlace = { state: 'waiting', attemptsMade: 0, paused: false, ...place }
  return explain({ queue: 'mail', id: 'j1', place: known, carrier: undefined, eligible: 1, ...more })
}

const carrier = { supervisor: 's1', runningMs: 61_000, silentMs: 2000, step: 'charge', stepMs: 12_000 }

describe('explain', () => {
  it('C14 gives one reason for every place that a job can be in', () => {
    const reasons = [
      setup({ state: 'not_found' }),
      setup({ state: 'completed' }),
      setup({ state: 'failed', lastError: 'no such file', attemptsMade: 8 }),
      setup({ state: 'active' }, { carrier }),
      setup({ state: 'active' }),
      setup({ state: 'delayed', dueAt: 0 }),
      setup({ state: 'delayed', dueAt: 0, attemptsMade: 2 }),
      setup({ paused: true }),
      setup({}, { eligible: 0 }),
      setup({ ahead: 0 }),
      setup({ ahead: 3 }),
      setup({ state: 'waiting-children' }),
    ].map(({ reason }) => reason)
    expect(reasons).toEqual([
      ...['not_found', 'completed', 'failed', 'running', 'orphaned', 'scheduled', 'backing_off', 'paused', 'no_worker'],
      ...['next', 'behind', 'waiting_for_children'],
    ])
  })

  it('says of a running job where, since when and in which step', () => {
    expect(setup({ state: 'active' }, { carrier })).toMatchObject({
      why: 'runs on supervisor s1 for 61.0 s, in step charge for 12.0 s; last sign of life 2.0 s ago',
      carrier,
    })
  })

  it('says until when a job backs off and why', () => {
    const explanation = setup({ state: 'delayed', dueAt: Date.UTC(2030, 0, 1), attemptsMade: 2, lastError: 'timeout' })
    expect(explanation.why).toBe('backing off until 2030-01-01T00:00:00.000Z after attempt 2: timeout')
    expect(explanation.retryAt).toBe('2030-01-01T00:00:00.000Z')
  })
})

import { describe, expect, it } from 'vitest'
import type { Transition } from '../../../src/watchdog/incident.js'
import { age, lineOf } from '../../../src/watchdog/report.js'
import { incidentOf } from '../../support/findings.js'

const stuck = (incident: ReturnType<typeof incidentOf>): Transition => ({ seq: 7, at: 1, event: 'stuck', incident })

describe('the log lines of an incident', () => {
  it('A9 STUCK names subject, cause, age, step and its age, and the job of a thread', () => {
    const thread = {
      subjectKind: 'thread',
      subject: 'supervisor:a/thread:img:1',
      cause: 'thread_blocked',
      ageMs: 12_345,
      jobId: '17',
    } as const
    const line = lineOf(
      stuck(incidentOf({ ...thread, attempt: 2, phase: 'step resize', step: 'resize', stepMs: 12_900 })),
      'w2',
    )
    expect(line.message).toBe(
      'STUCK supervisor:a/thread:img:1: thread_blocked for 12 s, in step resize (12 s) of job 17, attempt 2',
    )
    expect(line.level).toBe('warn')
  })

  it('a thread that blocks outside any step names the job', () => {
    const incident = incidentOf({ subjectKind: 'thread', subject: 's', cause: 'thread_blocked', ageMs: 999, jobId: '17' })
    expect(lineOf(stuck(incident), 'w').message).toBe('STUCK s: thread_blocked for 999 ms, in job 17')
  })

  it('a loop without a word for what it does is said without one', () => {
    const incident = incidentOf({ subjectKind: 'loop', subject: 's', cause: 'poll_stale', ageMs: 999, phase: '' })
    expect(lineOf(stuck(incident), 'w').message).toBe('STUCK s: poll_stale for 999 ms')
  })

  it('has exactly the fields of the contract, and only those that are known', () => {
    const incident = incidentOf({
      queue: 'img',
      supervisor: 'a',
      incarnation: 'a-1',
      phase: 'step x',
      step: 'x',
      stepMs: 5,
      jobId: '17',
      attempt: 1,
      serves: ['q'],
    })
    const contract =
      'event incidentId seq subjectKind subject queue supervisor incarnation cause since ageMs thresholdMs phase jobId attempt step watchdogId'
    expect(Object.keys(lineOf(stuck(incident), 'w2').fields).sort()).toEqual(contract.split(' ').sort())
    expect(lineOf(stuck(incident), 'w2').fields).toMatchObject({ event: 'stuck', seq: 7, watchdogId: 'w2' })
    expect(Object.keys(lineOf(stuck(incidentOf()), 'w').fields)).not.toContain('queue')
  })

  it('B9 RESUMED says how long, and how it ended when it did not simply recover', () => {
    const resumed = (outcome: 'recovered' | 'drained') =>
      ({ seq: 8, at: 1, event: 'resumed', outcome, durationMs: 200_000, incident: incidentOf() }) as const
    expect(lineOf(resumed('recovered'), 'w').message).toBe('RESUMED job:img/17 after 3 min 20 s')
    expect(lineOf(resumed('drained'), 'w')).toMatchObject({
      level: 'info',
      message: 'RESUMED job:img/17 after 3 min 20 s (drained)',
      fields: { event: 'resumed', outcome: 'drained', durationMs: 200_000 },
    })
  })

  it('B6 a held incident says how much was held back', () => {
    const incident = incidentOf({ held: true, heldBack: 44 })
    const line = lineOf({ seq: 8, at: 1, event: 'resumed', outcome: 'recovered', durationMs: 60_000, incident }, 'w')
    expect(line.message).toBe('RESUMED job:img/17 after 1 min, 44 more held back')
    expect(line.fields['heldBack']).toBe(44)
  })

  it.each([
    [0, '0 ms'],
    [850, '850 ms'],
    [999.6, '1 s'],
    [1000, '1 s'],
    [12_999, '12 s'],
    [60_000, '1 min'],
    [200_000, '3 min 20 s'],
    [7_500_000, '2 h 5 min'],
  ])('%f ms reads %s', (ms, text) => {
    expect(age(ms)).toBe(text)
  })
})

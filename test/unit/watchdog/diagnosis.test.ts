import { describe, expect, it } from 'vitest'
import type { Sight } from '../../../src/heartbeat/observer.js'
import type { QueueFacts } from '../../../src/heartbeat/queue-facts.js'
import { diagnose, type Evidence, type Finding } from '../../../src/watchdog/diagnosis.js'
import type { QueueCondition } from '../../../src/watchdog/queue-tracker.js'
import { beatOf, deadOf, jobOf, loopOf, seenOf, threadOf } from '../../support/beats.js'
import { factsOf, incidentOf } from '../../support/findings.js'

const clear: Sight = { judges: 'all', reason: undefined, clearForMs: 60_000, blindForMs: 0 }

function setup(evidence: Partial<Evidence>): Finding[] {
  const nothing: Evidence = { sight: clear, supervisors: [], queues: [], watchdogs: [], watchdogLostAfterMs: 5000, open: [] }
  return [...diagnose({ ...nothing, ...evidence }).findings]
}

const queueWith = (condition: QueueCondition, facts: Partial<QueueFacts> = {}) => ({
  facts: factsOf(facts),
  conditions: [condition],
})
const notMoving: QueueCondition = { cause: 'queue_not_moving', heldMs: 700, thresholdMs: 600 }
const noWorker: QueueCondition = { cause: 'no_eligible_worker', heldMs: 700, thresholdMs: 600 }
const brief = (findings: readonly Finding[]) =>
  findings.map(({ subject, cause, coveredBy }) => `${subject} ${cause}${coveredBy ? ` < ${coveredBy}` : ''}`)

const blocked = { ageMs: 5001, thresholdMs: 5000 }
const wedged = loopOf({ ageMs: 65_001, phase: 'moveToActive' })

describe('diagnosis', () => {
  it('A15 finds nothing in healthy beats, idle threads and quiet queues', () => {
    const idle = beatOf({ threads: [threadOf({ jobs: 0, tickAgeMs: 600_000 })] })
    expect(setup({ supervisors: [seenOf(idle)], queues: [{ facts: factsOf(), conditions: [] }] })).toEqual([])
  })

  it('A9 names what a late loop and a late job do, with the age', () => {
    const job = jobOf({ silentMs: 300_001, step: 'charge', stepMs: 12_000.4, attempt: 3 })
    const [loop, silent] = setup({ supervisors: [seenOf(beatOf({ loops: [wedged], jobs: [job] }))] })
    expect(loop).toMatchObject({
      cause: 'poll_stale',
      phase: 'moveToActive',
      ageMs: 60_001,
      queue: 'img',
      supervisor: 'a',
      incarnation: 'a-1',
    })
    expect(silent).toMatchObject({
      cause: 'job_silent',
      phase: 'step charge',
      step: 'charge',
      stepMs: 12_000,
      jobId: '17',
      attempt: 3,
    })
  })

  it('A11 silence past the deadline is process_dead and nothing else, whatever its last beat said', () => {
    const findings = setup({
      supervisors: [deadOf(beatOf({ main: blocked, loops: [wedged], jobs: [jobOf({ silentMs: 999_999 })] }))],
    })
    expect(brief(findings)).toEqual(['supervisor:a process_dead'])
    expect(findings[0]).toMatchObject({ ageMs: 5001, thresholdMs: 5000, serves: ['img'] })
  })

  it('C9 a dead process bears the group of its last beat, and none when that had none', () => {
    expect(setup({ supervisors: [deadOf(beatOf({ group: 'acme' }))] })).toMatchObject([
      { cause: 'process_dead', group: 'acme' },
    ])
    expect(setup({ supervisors: [deadOf()] })[0]).not.toHaveProperty('group')
  })

  it('exactly at the deadline nobody is dead', () => {
    expect(setup({ supervisors: [deadOf(beatOf(), 0)] })).toEqual([])
  })

  it('A11 a goodbye is no death, however long ago', () => {
    expect(setup({ supervisors: [{ ...deadOf(beatOf(), 999_999), bye: true }] })).toEqual([])
  })

  it('A11 a record that is gone while it is due is process_dead', () => {
    const gone = { ...deadOf(), incarnation: undefined, beat: undefined }
    expect(brief(setup({ supervisors: [gone] }))).toEqual(['supervisor:a process_dead'])
  })

  it('a blocked main event loop covers the loops, but not the threads', () => {
    const beat = beatOf({
      main: blocked,
      loops: [{ ...wedged, lockAgeMs: 31_000, lockDurationMs: 30_000 }],
      threads: [threadOf({ tickAgeMs: 10_001 })],
    })
    expect(brief(setup({ supervisors: [seenOf(beat)] }))).toEqual([
      'supervisor:a/main loop_blocked',
      'supervisor:a/loop:fetch:img poll_stale < supervisor:a/main',
      'supervisor:a/thread:img:1 thread_blocked',
    ])
  })

  it('a stale fetch loop covers its own late lock renewal; alone that is a cause of its own', () => {
    const late = { lockAgeMs: 31_000, lockDurationMs: 30_000 }
    expect(brief(setup({ supervisors: [seenOf(beatOf({ loops: [{ ...wedged, ...late }] }))] }))).toEqual([
      'supervisor:a/loop:fetch:img poll_stale',
    ])
    expect(brief(setup({ supervisors: [seenOf(beatOf({ loops: [loopOf(late)] }))] }))).toEqual([
      'supervisor:a/loop:fetch:img lock_late',
    ])
  })

  it('a blocked thread covers its own jobs only', () => {
    const jobs = [jobOf({ silentMs: 300_001 }), jobOf({ id: '18', thread: 2, silentMs: 300_001 })]
    const beat = beatOf({ threads: [threadOf({ tickAgeMs: 10_001 }), threadOf({ number: 2 })], jobs })
    expect(brief(setup({ supervisors: [seenOf(beat)] }))).toEqual([
      'supervisor:a/thread:img:1 thread_blocked',
      'job:img/17 job_silent < supervisor:a/thread:img:1',
      'job:img/18 job_silent',
    ])
  })

  it.each([
    ['a wedged fetch loop', seenOf(beatOf({ loops: [wedged] })), 'supervisor:a/loop:fetch:img'],
    ['a blocked main loop', seenOf(beatOf({ main: blocked })), 'supervisor:a/main'],
    ['a dead process', deadOf(), 'supervisor:a'],
  ])('%s covers the standstill of the queues that it serves, and of no other', (_name, seen, coveredBy) => {
    const queues = [queueWith(notMoving), queueWith(notMoving, { queue: 'mail' })]
    const ofQueues = setup({ supervisors: [seen], queues }).filter(({ subjectKind }) => subjectKind === 'queue')
    expect(ofQueues.map((finding) => finding.coveredBy)).toEqual([coveredBy, undefined])
  })

  it('late lock renewal explains no standstill', () => {
    const beat = beatOf({ loops: [loopOf({ lockAgeMs: 31_000, lockDurationMs: 30_000 })] })
    expect(brief(setup({ supervisors: [seenOf(beat)], queues: [queueWith(notMoving)] }))).toContain(
      'queue:img queue_not_moving',
    )
  })

  it('B8 no worker is explained by a dead process of that queue, not by a wedged one', () => {
    expect(brief(setup({ supervisors: [deadOf()], queues: [queueWith(noWorker)] }))).toContain(
      'queue:img no_eligible_worker < supervisor:a',
    )
    const wedgedOnly = setup({ supervisors: [seenOf(beatOf({ loops: [wedged] }))], queues: [queueWith(noWorker)] })
    expect(brief(wedgedOnly)).toContain('queue:img no_eligible_worker')
  })

  it('an open incident of a supervisor that was not looked at covers too', () => {
    const open = [
      incidentOf({ subjectKind: 'process', subject: 'supervisor:a', cause: 'process_dead', supervisor: 'a', serves: ['img'] }),
    ]
    expect(brief(setup({ open, queues: [queueWith(noWorker)] }))).toEqual(['queue:img no_eligible_worker < supervisor:a'])
    expect(brief(setup({ open, supervisors: [seenOf()], queues: [queueWith(noWorker)] }))).toEqual([
      'queue:img no_eligible_worker',
    ])
  })

  it('a trouble of a queue that is not old enough is found only where it is open already', () => {
    const young = { ...notMoving, heldMs: 600 }
    expect(setup({ queues: [queueWith(young)] })).toEqual([])
    const open = [incidentOf({ subjectKind: 'queue', subject: 'queue:img', queue: 'img', cause: 'queue_not_moving' })]
    expect(setup({ open, queues: [queueWith(young)] })).toMatchObject([{ cause: 'queue_not_moving', ripe: false }])
  })

  it('B7 a record that cannot be read is named and set aside, and the rest goes on', () => {
    const broken = { ...seenOf(beatOf({ supervisor: 'b' })), beat: undefined, broken: 'no JSON', overdueMs: 9999 }
    const sight = clear
    const garbled = seenOf({ v: 1, supervisor: 'c', incarnation: 'c-1', loops: [], threads: [], jobs: [] } as never)
    const evidence = {
      sight,
      supervisors: [broken, garbled, deadOf()],
      queues: [],
      watchdogs: [],
      watchdogLostAfterMs: 1,
      open: [],
    }
    const diagnosis = diagnose(evidence)
    expect(brief(diagnosis.findings)).toEqual(['supervisor:a process_dead'])
    expect([...diagnosis.setAside]).toEqual([
      ['b', 'no JSON'],
      ['c', expect.stringMatching(/^not the form of a beat/)],
    ])
    expect([...diagnosis.supervisors.keys()]).toEqual(['a'])
  })

  it('B5 while it is blind it finds nothing and knows nobody', () => {
    const sight: Sight = { judges: 'none', reason: 'clock_jump', clearForMs: 100, blindForMs: 1 }
    const evidence = {
      sight,
      supervisors: [deadOf()],
      queues: [queueWith(noWorker)],
      watchdogs: [],
      watchdogLostAfterMs: 1,
      open: [],
    }
    const diagnosis = diagnose(evidence)
    expect(diagnosis).toMatchObject({ findings: [] })
    expect(diagnosis.supervisors.size + diagnosis.queues.size).toBe(0)
  })

  it('after a start it believes a beat that came since, and neither silence, nor an older beat, nor a queue', () => {
    const sight: Sight = { judges: 'stated', reason: 'starting', clearForMs: 1000, blindForMs: 0 }
    const late = beatOf({ main: blocked })
    expect(brief(setup({ sight, supervisors: [seenOf(late, { ageMs: 999 })] }))).toEqual(['supervisor:a/main loop_blocked'])
    expect(setup({ sight, supervisors: [seenOf(late, { ageMs: 1000 })] })).toEqual([])
    expect(
      setup({ sight, supervisors: [deadOf()], queues: [queueWith(noWorker)], watchdogs: [{ id: 'w2', silentMs: 9999 }] }),
    ).toEqual([])
  })

  it('A6 a draining supervisor is judged for its parts, not for polling', () => {
    const loops = [loopOf({ state: 'draining', inFlight: false, ageMs: 3_600_000 })]
    expect(setup({ supervisors: [seenOf(beatOf({ state: 'draining', loops }))] })).toEqual([])
    const jobs = [jobOf({ silentMs: 300_001 })]
    expect(brief(setup({ supervisors: [seenOf(beatOf({ state: 'draining', loops, jobs }))] }))).toEqual([
      'job:img/17 job_silent',
    ])
  })

  it('B4 another watchdog that went silent is lost; exactly at the limit it is not', () => {
    const watchdogs = [
      { id: 'w2', silentMs: 5001 },
      { id: 'w3', silentMs: 5000 },
    ]
    expect(brief(setup({ watchdogs }))).toEqual(['watchdog:w2 watchdog_lost'])
  })
})

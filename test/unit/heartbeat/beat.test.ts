import { describe, expect, it } from 'vitest'
import { type Beat, lateIn, loopStaleness, nextLateInMs } from '../../../src/heartbeat/beat.js'

const LOOP = {
  loop: 'fetch',
  queue: 'mail',
  skipped: 0,
  phase: 'moveToActive',
  limitMs: 0,
  thresholdMs: 60_000,
  graceMs: 30_000,
} as const

function setup(changes: Partial<Beat> = {}): Beat {
  return {
    v: 1,
    supervisor: 'alpha',
    incarnation: 'i1',
    seq: 1,
    host: 'h',
    pid: 1,
    version: '0',
    state: 'running',
    uptimeMs: 1000,
    intervalMs: 1000,
    timeoutMs: 5000,
    main: { ageMs: 0, thresholdMs: 5000 },
    threadBlockedMs: 10_000,
    loops: [],
    threads: [],
    jobs: [],
    queues: [{ queue: 'mail', slots: 4, busy: 0, eligible: true, silentAfterMs: 300_000, onStuck: 'report' }],
    ...changes,
  }
}

const thread = (changes: object = {}) => ({ queue: 'mail', number: 1, generation: 3, jobs: 1, tickAgeMs: 0, ...changes })
const job = (changes: object = {}) => ({
  queue: 'mail',
  id: 'j1',
  attempt: 2,
  fence: 7,
  thread: 1,
  runningMs: 0,
  silentMs: 0,
  ...changes,
})

describe('staleness of a loop', () => {
  it('A3 in flight for exactly the threshold is not stale; one ms more is', () => {
    const at = (ageMs: number) =>
      lateIn(setup({ loops: [{ ...LOOP, state: 'polling', cycles: 5, inFlight: true, ageMs }] })).map(({ cause }) => cause)
    expect([at(60_000), at(60_001)]).toEqual([[], ['poll_stale']])
  })

  it('A3 the last end at exactly the threshold with nothing in flight is not stale; one ms more is', () => {
    const at = (ageMs: number) =>
      lateIn(setup({ loops: [{ ...LOOP, state: 'polling', cycles: 5, inFlight: false, ageMs }] })).map(({ cause }) => cause)
    expect([at(60_000), at(60_001)]).toEqual([[], ['poll_stale']])
  })

  it('A1 without a cycle it is never_polled once the grace is over, not poll_stale', () => {
    const at = (ageMs: number) => loopStaleness({ ...LOOP, state: 'polling', cycles: 0, inFlight: false, ageMs })
    expect(at(30_001)).toEqual({ cause: 'never_polled', ageMs: 30_001, thresholdMs: 30_000 })
    expect(lateIn(setup({ loops: [{ ...LOOP, state: 'polling', cycles: 0, inFlight: false, ageMs: 30_000 }] }))).toEqual([])
  })

  it('a call that may block on purpose is measured from the end of its own limit', () => {
    const at = (ageMs: number) =>
      lateIn(setup({ loops: [{ ...LOOP, state: 'polling', cycles: 5, inFlight: true, limitMs: 5000, ageMs }] }))
    expect(at(65_000)).toEqual([])
    expect(at(65_001)).toMatchObject([{ cause: 'poll_stale', ageMs: 60_001 }])
  })

  it('A9 a loop at rest names what was last as that, and not as what it hangs in', () => {
    const phase = (changes: object) =>
      lateIn(setup({ loops: [{ ...LOOP, state: 'polling', cycles: 5, inFlight: false, ageMs: 60_001, ...changes }] }))[0]?.phase
    expect([phase({ inFlight: true }), phase({}), phase({ phase: '' })]).toEqual([
      'moveToActive',
      'rest after moveToActive',
      'rest',
    ])
  })

  it.each(['starting', 'full', 'paused', 'draining', 'stopped'] as const)('A6 at rest while %s it is never late', (state) => {
    const beat = setup({ loops: [{ ...LOOP, state, cycles: 5, inFlight: false, ageMs: 1e9 }] })
    expect(lateIn(beat)).toEqual([])
  })

  it.each(['full', 'paused', 'draining', 'limited'] as const)('a call that hangs is late also while %s', (state) => {
    const beat = setup({ loops: [{ ...LOOP, state, cycles: 5, inFlight: true, ageMs: 60_001 }] })
    expect(lateIn(beat)).toMatchObject([{ cause: 'poll_stale' }])
  })

  it('locks are late once they are older than they live, under the loop’s name', () => {
    const at = (lockAgeMs: number) =>
      lateIn(
        setup({ loops: [{ ...LOOP, state: 'full', cycles: 5, inFlight: false, ageMs: 0, lockAgeMs, lockDurationMs: 30_000 }] }),
      )
    expect(at(30_000)).toEqual([])
    expect(at(30_001)).toMatchObject([
      { cause: 'lock_late', subject: 'supervisor:alpha/loop:fetch:mail', phase: 'extendLocks' },
    ])
  })
})

describe('what is late in a beat', () => {
  it('the main event loop, beyond exactly its threshold', () => {
    expect(lateIn(setup({ main: { ageMs: 5000, thresholdMs: 5000 } }))).toEqual([])
    expect(lateIn(setup({ main: { ageMs: 5001, thresholdMs: 5000 } }))).toMatchObject([
      { kind: 'event_loop', subject: 'supervisor:alpha/main', cause: 'loop_blocked', ageMs: 5001 },
    ])
  })

  it('A15 a thread without jobs is parked, however long it does not turn', () => {
    expect(lateIn(setup({ threads: [thread({ jobs: 0, tickAgeMs: 1e9 })] }))).toEqual([])
  })

  it('a blocked thread names the job that showed life last, with its step', () => {
    const jobs = [
      job({ id: 'a', silentMs: 20_000 }),
      job({ id: 'b', silentMs: 10_002, step: 'parse', stepMs: 10_004 }),
      job({ id: 'c', silentMs: 9000, thread: 2 }),
    ]
    expect(lateIn(setup({ threads: [thread({ tickAgeMs: 10_000 })], jobs }))).toEqual([])
    expect(lateIn(setup({ threads: [thread({ tickAgeMs: 10_001 })], jobs }))).toMatchObject([
      {
        subject: 'supervisor:alpha/thread:mail:1',
        cause: 'thread_blocked',
        thread: 1,
        generation: 3,
        jobId: 'b',
        attempt: 2,
        step: 'parse',
        phase: 'step parse',
        stepMs: 10_004,
      },
    ])
  })

  it('A9 a silent job with its step, the step’s age and its thread', () => {
    const at = (silentMs: number) =>
      lateIn(setup({ threads: [thread()], jobs: [job({ silentMs, step: 'clone', stepMs: 300_050 })] }))
    expect(at(300_000)).toEqual([])
    expect(at(300_001)).toMatchObject([
      {
        subject: 'job:mail/j1',
        cause: 'job_silent',
        jobId: 'j1',
        attempt: 2,
        thread: 1,
        generation: 3,
        step: 'clone',
        stepMs: 300_050,
      },
    ])
  })

  it('D5 a launch beyond exactly its timeout since the claim, in its own phase, whatever else it shows', () => {
    const queues = [
      { queue: 'mail', slots: 4, busy: 1, eligible: true, silentAfterMs: 100, launchTimeoutMs: 60_000, onStuck: 'report' },
    ] as const
    const launching = { thread: 0, alone: true, launching: true, step: 'launch workspace', stepMs: 40_000 } as const
    const at = (runningMs: number) => lateIn(setup({ queues, jobs: [job({ ...launching, runningMs, silentMs: 5000 })] }))
    expect(at(60_000)).toEqual([])
    expect(at(60_001)).toEqual([
      {
        kind: 'job',
        subject: 'job:mail/j1',
        cause: 'launch_overdue',
        ageMs: 60_001,
        thresholdMs: 60_000,
        queue: 'mail',
        thread: 0,
        jobId: 'j1',
        attempt: 2,
        step: 'launch workspace',
        phase: 'launch workspace',
        stepMs: 40_000,
      },
    ])
    expect(nextLateInMs(setup({ queues, jobs: [job({ ...launching, runningMs: 59_000 })] }))).toBe(1000)
  })

  it('D11 a session that has shown life, however old, only by its silence', () => {
    const queues = [
      { queue: 'mail', slots: 4, busy: 1, eligible: true, silentAfterMs: 300_000, launchTimeoutMs: 60_000, onStuck: 'report' },
    ] as const
    const at = (silentMs: number) =>
      lateIn(setup({ queues, jobs: [job({ thread: 0, alone: true, runningMs: 1e9, silentMs })] }))
    expect(at(300_000)).toEqual([])
    expect(at(300_001)).toMatchObject([{ cause: 'job_silent' }])
  })

  it('nothing, once the process has stopped', () => {
    expect(lateIn(setup({ state: 'stopped', main: { ageMs: 1e9, thresholdMs: 5000 } }))).toEqual([])
  })
})

describe('when the next subject can fall late', () => {
  it('is the nearest of all that are not late yet', () => {
    const beat = setup({
      main: { ageMs: 100, thresholdMs: 5000 },
      loops: [{ ...LOOP, state: 'polling', cycles: 1, inFlight: true, ageMs: 59_000 }],
      jobs: [job({ silentMs: 300_001 })],
    })
    expect(nextLateInMs(beat)).toBe(1000)
  })

  it('is never when nothing is judged', () => {
    expect(nextLateInMs(setup({ state: 'stopped' }))).toBe(Number.POSITIVE_INFINITY)
  })
})

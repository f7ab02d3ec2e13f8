import { describe, expect, it } from 'vitest'
import { OUTCOME_KINDS, type Outcome, revive } from '../../../src/dispatch/outcome.js'
import { backoffMs, type Counters, type Decision, decide, HAND_BACK_DELAY_MS } from '../../../src/dispatch/retry-policy.js'

const LADDER = { backoffMs: [30_000, 60_000, 120_000, 300_000, 600_000], jitter: 0.2 }
const MIDDLE = 0.5
const ALMOST_ONE = 1 - Number.EPSILON

describe('the backoff ladder', () => {
  it('C3 waits 30 s, 1 m, 2 m, 5 m, 10 m, then 10 m for every later attempt', () => {
    const waits = [1, 2, 3, 4, 5, 6, 7, 100].map((made) => backoffMs(made, LADDER, MIDDLE))
    expect(waits).toEqual([30_000, 60_000, 120_000, 300_000, 600_000, 600_000, 600_000, 600_000])
  })

  it('C3 stays within its jitter at both ends of chance', () => {
    expect(backoffMs(1, LADDER, 0)).toBe(24_000)
    expect(backoffMs(1, LADDER, ALMOST_ONE)).toBe(36_000)
    expect(backoffMs(9, LADDER, 0)).toBe(480_000)
    expect(backoffMs(9, LADDER, ALMOST_ONE)).toBe(720_000)
  })

  it('never is 0, which BullMQ takes for at once at the head of the queue', () => {
    expect(backoffMs(1, { backoffMs: [0], jitter: 0 }, MIDDLE)).toBe(1)
    expect(backoffMs(1, { backoffMs: [1], jitter: 1 }, 0)).toBe(1)
    expect(backoffMs(1, { backoffMs: [], jitter: 0.2 }, MIDDLE)).toBe(1)
  })

  it('takes a count below 1 for the first attempt', () => {
    expect(backoffMs(0, LADDER, MIDDLE)).toBe(30_000)
    expect(backoffMs(-3, LADDER, MIDDLE)).toBe(30_000)
  })
})

describe('the decision after an attempt', () => {
  const error = new Error('no')
  const POLICY = { ...LADDER, cooldownMs: 1_800_000, maxResets: 5, slowRetryMs: 21_600_000, parkMs: 600_000 }
  const FRESH: Counters = { attemptsMade: 0, attemptsMax: 8, resets: 0, charged: true }
  const decided = (outcome: Outcome, counters: Partial<Counters> = {}) =>
    decide(outcome, { ...FRESH, ...counters }, POLICY, MIDDLE)

  const cases: readonly [Outcome, Decision][] = [
    [
      { kind: 'success', result: 7 },
      { verb: 'complete', result: 7 },
    ],
    [
      { kind: 'transient', error },
      { verb: 'retry', error, delayMs: 30_000, reason: 'may_pass' },
    ],
    [
      { kind: 'permanent', error },
      { verb: 'fail', error, reason: 'permanent' },
    ],
    [
      { kind: 'killed', error },
      { verb: 'retry', error, delayMs: 30_000, reason: 'thread_lost' },
    ],
    [
      { kind: 'cancelled', error },
      { verb: 'fail', error, reason: 'cancelled' },
    ],
    [
      { kind: 'handed_back', reason: 'shutdown' },
      { verb: 'hand_back', delayMs: HAND_BACK_DELAY_MS, reason: 'shutdown' },
    ],
  ]

  it.each(cases)('of %o has its verb and its reason', (outcome, decision) => {
    expect(decided(outcome)).toEqual(decision)
  })

  it('exists for every outcome there is, but for the one that others find', () => {
    expect([...cases.map(([outcome]) => outcome.kind), 'supervisor_lost'].sort()).toEqual([...OUTCOME_KINDS].sort())
  })

  it('C3 climbs the ladder by the count in Redis', () => {
    const waits = [0, 1, 2, 3, 4, 5, 6].map((attemptsMade) => decided({ kind: 'transient', error }, { attemptsMade }))
    expect(waits.map((decision) => (decision.verb === 'retry' ? decision.delayMs / 1000 : decision.verb))).toEqual([
      30, 60, 120, 300, 600, 600, 600,
    ])
  })

  it('C4 after the last try is exhausted, with a cooldown, and not failed', () => {
    expect(decided({ kind: 'transient', error }, { attemptsMade: 7 })).toEqual({
      verb: 'exhaust',
      error,
      cooldownMs: 1_800_000,
      reason: 'attempts_used_up',
    })
    expect(decided({ kind: 'killed', error }, { attemptsMade: 12 })).toMatchObject({ verb: 'exhaust' })
  })

  it('C6 after maxResets counted resets waits for the slow retry', () => {
    const last = (resets: number) => decided({ kind: 'transient', error }, { attemptsMade: 7, resets })
    expect(last(4)).toMatchObject({ cooldownMs: 1_800_000, reason: 'attempts_used_up' })
    expect(last(5)).toMatchObject({ cooldownMs: 21_600_000, reason: 'resets_used_up' })
  })

  it('C11 while its breaker is open is no charge: the job is parked, also on its last attempt', () => {
    const parked = { verb: 'hand_back', delayMs: 900_000, reason: 'breaker_open', error }
    expect(decided({ kind: 'transient', error }, { charged: false })).toEqual(parked)
    expect(decided({ kind: 'killed', error }, { charged: false, attemptsMade: 7 })).toEqual(parked)
    expect(decided({ kind: 'permanent', error }, { charged: false })).toMatchObject({ verb: 'fail', reason: 'permanent' })
  })

  it('D8 of a suspect that did it again alone is poison, and of one that we ended is not', () => {
    expect(decided({ kind: 'killed', error, alone: true })).toEqual({ verb: 'fail', error, reason: 'poison' })
    expect(decided({ kind: 'killed', error, ordered: true })).toMatchObject({ verb: 'retry' })
  })

  it('of a job that somebody cancelled meanwhile is its end, unless it succeeded', () => {
    const cancelled = 'cancelled by cli:ann: wrong branch'
    for (const outcome of [
      { kind: 'transient', error },
      { kind: 'handed_back', reason: 'shutdown' },
    ] as const)
      expect(decided(outcome, { cancelled })).toMatchObject({
        verb: 'fail',
        reason: 'cancelled',
        error: { message: cancelled },
      })
    expect(decided({ kind: 'success', result: 1 }, { cancelled })).toMatchObject({ verb: 'complete' })
  })

  it('C13 a rate-limited try waits as long as its handler says', () => {
    expect(decided({ kind: 'handed_back', reason: 'rate_limited', delayMs: 7000 })).toEqual({
      verb: 'hand_back',
      delayMs: 7000,
      reason: 'rate_limited',
    })
  })
})

describe('an error that came out of a thread', () => {
  it('bears its own name, message and stack again', () => {
    const error = revive({
      name: 'RangeError',
      message: 'too far',
      stack: 'RangeError: too far\n    at there',
      permanent: false,
    })
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({ name: 'RangeError', message: 'too far', stack: 'RangeError: too far\n    at there' })
  })
})

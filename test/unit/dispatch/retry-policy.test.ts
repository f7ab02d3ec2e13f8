import { describe, expect, it } from 'vitest'
import { OUTCOME_KINDS, type Outcome, revive } from '../../../src/dispatch/outcome.js'
import { backoffMs, decide, HAND_BACK_DELAY_MS } from '../../../src/dispatch/retry-policy.js'

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
  const cases: readonly [Outcome, ReturnType<typeof decide>][] = [
    [
      { kind: 'success', result: 7 },
      { verb: 'complete', result: 7 },
    ],
    [
      { kind: 'transient', error },
      { verb: 'retry', error, reason: 'may_pass' },
    ],
    [
      { kind: 'permanent', error },
      { verb: 'fail', error, reason: 'permanent' },
    ],
    [
      { kind: 'killed', error },
      { verb: 'retry', error, reason: 'thread_lost' },
    ],
    [
      { kind: 'handed_back', reason: 'shutdown' },
      { verb: 'hand_back', delayMs: HAND_BACK_DELAY_MS, reason: 'shutdown' },
    ],
  ]

  it.each(cases)('of %o has its verb and its reason', (outcome, decision) => {
    expect(decide(outcome)).toEqual(decision)
  })

  it('exists for every outcome there is', () => {
    expect(cases.map(([outcome]) => outcome.kind)).toEqual(OUTCOME_KINDS)
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

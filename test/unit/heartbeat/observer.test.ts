import { describe, expect, it } from 'vitest'
import { Observer, type Sight } from '../../../src/heartbeat/observer.js'

const TIMEOUT_MS = 5000
const HOUR_MS = 3_600_000

function setup() {
  const observer = new Observer({ timeoutMs: TIMEOUT_MS })
  let mono = 1_000_000
  let redis = 1_700_000_000_000
  let epoch: string | undefined = 'e1'
  const look = (roundTripMs = 1): Sight => {
    const before = mono
    mono += roundTripMs
    redis += roundTripMs
    const epochBefore = epoch
    epoch ??= `e-${redis}`
    return observer.looked({ redisNow: redis, epochBefore, epoch, before, after: mono })
  }
  const pass = (ms: number) => {
    mono += ms
    redis += ms
  }
  /** Looks once a second, and says how it saw at the end. */
  const looksFor = (ms: number): Sight => {
    let sight = look()
    for (let passed = 0; passed < ms; passed += 1000) {
      pass(1000)
      sight = look()
    }
    return sight
  }
  return {
    look,
    pass,
    looksFor,
    settle: () => looksFor(TIMEOUT_MS + 1000),
    fail: (roundTripMs = 1): Sight => {
      const before = mono
      mono += roundTripMs
      redis += roundTripMs
      return observer.failed(before, mono)
    },
    stepStoreClock: (ms: number) => {
      redis += ms
    },
    flush: () => {
      epoch = undefined
    },
    flushAndOther: () => {
      epoch = 'set by another'
    },
  }
}

describe('an observer', () => {
  it('after its start believes what fresh beats say of themselves, and judges silence after a full timeout', () => {
    const { look, looksFor } = setup()
    expect(look()).toMatchObject({ judges: 'stated', reason: 'starting', clearForMs: 0 })
    expect(looksFor(TIMEOUT_MS - 1000).judges).toBe('stated')
    expect(looksFor(1000)).toMatchObject({ judges: 'all', reason: undefined })
  })

  it.each([HOUR_MS, -HOUR_MS, 600, -600])(
    'A13 a step of the store clock by %i ms blinds it for one timeout, not longer',
    (step) => {
      const { settle, stepStoreClock, look, looksFor } = setup()
      expect(settle().judges).toBe('all')
      stepStoreClock(step)
      expect(look()).toMatchObject({ judges: 'none', reason: 'clock_jump' })
      expect(looksFor(TIMEOUT_MS - 1000).judges).toBe('none')
      expect(looksFor(1000).judges).toBe('all')
    },
  )

  it('A13 slewing within the tolerance and slow round trips blind nobody', () => {
    const { settle, stepStoreClock, look } = setup()
    settle()
    stepStoreClock(400)
    expect(look().judges).toBe('all')
    stepStoreClock(-400)
    expect(look(1900).judges).toBe('all')
  })

  it('A13 a suspended machine, whose monotonic clock stood still, is a clock jump', () => {
    const { settle, stepStoreClock, look } = setup()
    settle()
    stepStoreClock(8 * HOUR_MS)
    expect(look()).toMatchObject({ judges: 'none', reason: 'clock_jump' })
  })

  it('A13 B4 a pause of its own, or of everything at once, blinds it for one timeout', () => {
    const { settle, pass, look, looksFor } = setup()
    settle()
    pass(180_000)
    const woken = look()
    expect(woken).toMatchObject({ judges: 'none', reason: 'paused' })
    expect(woken.blindForMs).toBeGreaterThanOrEqual(180_000)
    expect(looksFor(TIMEOUT_MS).judges).toBe('all')
  })

  it('B4 a pause in the middle of a call that then fails is a pause, not an outage', () => {
    const { settle, fail } = setup()
    settle()
    expect(fail(180_000).reason).toBe('paused')
  })

  it('a gap of exactly the timeout is no pause; one millisecond more is', () => {
    const { settle, pass, look } = setup()
    settle()
    pass(TIMEOUT_MS)
    expect(look().judges).toBe('all')
    pass(TIMEOUT_MS + 1)
    expect(look().reason).toBe('paused')
  })

  it('B5 a store that cannot be read suspends all verdicts until it could be read for a full timeout', () => {
    const { settle, fail, pass, look, looksFor } = setup()
    settle()
    for (let i = 0; i < 60; i++) {
      expect(fail()).toMatchObject({ judges: 'none', reason: 'unreachable', clearForMs: 0 })
      pass(1000)
    }
    expect(look()).toMatchObject({ judges: 'none', reason: 'unreachable' })
    expect(looksFor(TIMEOUT_MS).judges).toBe('all')
  })

  it('an outage at the very start is no start any more', () => {
    const { fail, look } = setup()
    fail()
    expect(look()).toMatchObject({ judges: 'none', reason: 'unreachable' })
  })

  it('B3 a missing epoch, or one that another has set since, is a lost memory', () => {
    const { settle, flush, flushAndOther, look, looksFor } = setup()
    settle()
    flush()
    expect(look()).toMatchObject({ judges: 'none', reason: 'memory_lost' })
    expect(looksFor(TIMEOUT_MS).judges).toBe('all')
    flushAndOther()
    expect(look().reason).toBe('memory_lost')
  })

  it('a missing epoch at the first look is a new store, and no lost memory', () => {
    const { flush, look } = setup()
    flush()
    expect(look().reason).toBe('starting')
  })

  it('a lost memory found after an outage is said as that; a clock jump found then belongs to the outage', () => {
    const { settle, fail, stepStoreClock, flush, look } = setup()
    settle()
    fail()
    stepStoreClock(HOUR_MS)
    expect(look().reason).toBe('unreachable')
    flush()
    expect(look().reason).toBe('memory_lost')
  })

  it('a second doubt while it is blind begins the interval anew', () => {
    const { settle, stepStoreClock, look, looksFor } = setup()
    settle()
    stepStoreClock(HOUR_MS)
    looksFor(TIMEOUT_MS - 1000)
    stepStoreClock(-HOUR_MS)
    look()
    expect(looksFor(TIMEOUT_MS - 1000).judges).toBe('none')
    expect(looksFor(1000).judges).toBe('all')
  })
})

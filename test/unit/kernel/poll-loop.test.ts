import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type LoopProbe, PollLoop } from '../../../src/kernel/poll-loop.js'
import { type Deferred, deferred } from '../../support/deferred.js'

const INTERVAL_MS = 5000

function setup(cycle?: (phase: (name: string) => void) => Promise<void>) {
  const log: string[] = []
  const errors: unknown[] = []
  const cycles: Deferred<void>[] = []
  const probe: LoopProbe = {
    started: () => log.push('started'),
    phase: (name) => log.push(`phase ${name}`),
    ended: () => log.push('ended'),
    skipped: () => log.push('skipped'),
  }
  const loop = new PollLoop({
    intervalMs: INTERVAL_MS,
    stopTimeoutMs: 1000,
    probe,
    cycle:
      cycle ??
      (() => {
        log.push('cycle')
        const one = deferred()
        cycles.push(one)
        return one.promise
      }),
    onError: (error) => errors.push(error),
  })
  return { loop, log, errors, cycles }
}

describe('poll loop', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('A1 before any poll nothing is stamped', () => {
    const { log } = setup()
    vi.advanceTimersByTime(INTERVAL_MS * 3)
    expect(log).toEqual([])
  })

  it('A2 the start is stamped before the first await of the cycle', async () => {
    const { loop, log } = setup()
    await loop.start()
    expect(log).toEqual(['started', 'cycle'])
  })

  it('A2 a cycle that throws is stamped as ended, is reported, and the next one runs', async () => {
    let runs = 0
    const { loop, log, errors } = setup(async (phase) => {
      runs += 1
      phase('measure')
      if (runs === 1) throw new Error('no store')
    })
    await loop.start()
    await vi.advanceTimersByTimeAsync(INTERVAL_MS)
    expect(log).toEqual(['started', 'phase measure', 'ended', 'started', 'phase measure', 'ended'])
    expect(errors).toEqual([new Error('no store')])
  })

  it('A2 a cycle that throws before its first await is caught too', async () => {
    const { loop, log, errors } = setup(() => {
      throw new Error('at once')
    })
    await loop.start()
    await vi.advanceTimersByTimeAsync(0)
    expect(log).toEqual(['started', 'ended'])
    expect(errors).toEqual([new Error('at once')])
  })

  it('A4 while the first cycle never resolves, later ticks are counted as skipped and never start a second one', async () => {
    const { loop, log } = setup()
    await loop.start()
    await vi.advanceTimersByTimeAsync(INTERVAL_MS * 3)
    expect(log).toEqual(['started', 'cycle', 'skipped', 'skipped', 'skipped'])
  })

  it('a tick from outside begins a cycle before the interval is over', async () => {
    const { loop, log, cycles } = setup()
    await loop.start()
    cycles[0]?.resolve()
    await vi.advanceTimersByTimeAsync(1)
    loop.tick()
    expect(log).toEqual(['started', 'cycle', 'ended', 'started', 'cycle'])
  })

  it('A14 stop waits for the real cycle in flight, and no tick follows', async () => {
    const { loop, log, cycles } = setup()
    await loop.start()
    let stopped = false
    const stop = loop.stop().then(() => {
      stopped = true
    })
    await vi.advanceTimersByTimeAsync(500)
    expect(stopped).toBe(false)
    cycles[0]?.resolve()
    await stop
    loop.tick()
    await vi.advanceTimersByTimeAsync(INTERVAL_MS * 2)
    expect(log).toEqual(['started', 'cycle', 'ended'])
  })

  it('A14 stop gives a cycle that hangs up after its limit', async () => {
    const { loop, log } = setup()
    await loop.start()
    let stopped = false
    const stop = loop.stop().then(() => {
      stopped = true
    })
    await vi.advanceTimersByTimeAsync(999)
    expect(stopped).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    await stop
    expect(log).toEqual(['started', 'cycle'])
  })
})

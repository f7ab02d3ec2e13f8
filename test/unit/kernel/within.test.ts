import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { TIMED_OUT, within } from '../../../src/kernel/within.js'
import { deferred } from '../../support/deferred.js'

const LIMIT_MS = 1000

describe('a wait with a limit', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('gives what came in time, and leaves no timer behind', async () => {
    const work = deferred<number>()
    const wait = within(work.promise, LIMIT_MS)
    work.resolve(7)
    expect(await wait).toBe(7)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('ends at the limit, not before', async () => {
    const ends: unknown[] = []
    const wait = within(deferred().promise, LIMIT_MS).then((end) => ends.push(end))
    await vi.advanceTimersByTimeAsync(LIMIT_MS - 1)
    expect(ends).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    await wait
    expect(ends).toEqual([TIMED_OUT])
  })

  it('passes a failure on, and leaves no timer behind', async () => {
    const work = deferred()
    const wait = within(work.promise, LIMIT_MS)
    work.reject(new Error('no store'))
    await expect(wait).rejects.toThrow('no store')
    expect(vi.getTimerCount()).toBe(0)
  })

  it('takes a failure that comes after the limit to itself', async () => {
    let fail: (error: Error) => void = () => undefined
    const wait = within(
      new Promise<void>((_, reject) => {
        fail = reject
      }),
      LIMIT_MS,
    )
    await vi.advanceTimersByTimeAsync(LIMIT_MS)
    expect(await wait).toBe(TIMED_OUT)
    fail(new Error('too late: an unhandled rejection would fail this file'))
    await vi.advanceTimersByTimeAsync(0)
  })
})

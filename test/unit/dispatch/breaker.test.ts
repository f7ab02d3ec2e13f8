import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Breakers } from '../../../src/dispatch/breaker.js'

describe('what a supervisor knows of breakers', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  function setup(closes: readonly string[] = []) {
    const told: (readonly string[])[] = []
    const closed: string[] = []
    const errors: unknown[] = []
    let fails = false
    const breakers = new Breakers({
      worked: async (groups) => {
        if (fails) throw new Error('away')
        told.push(groups)
        return groups.filter((group) => closes.includes(group))
      },
      onClosed: (group) => closed.push(group),
      onError: (error) => errors.push(error),
    })
    return { breakers, told, closed, errors, fail: (now: boolean) => (fails = now) }
  }

  it('knows those that it heard of, and only those', () => {
    const { breakers } = setup()
    expect(breakers.isOpen('')).toBe(false)
    breakers.opened('acme')
    expect([breakers.isOpen('acme'), breakers.isOpen('')]).toEqual([true, false])
    breakers.learn([''])
    expect([breakers.isOpen('acme'), breakers.isOpen('')]).toEqual([false, true])
    breakers.closed('')
    expect(breakers.isOpen('')).toBe(false)
  })

  it('tells a thousand successes in one call', async () => {
    const { breakers, told } = setup()
    for (let n = 0; n < 1000; n += 1) breakers.worked(n % 2 === 0 ? '' : 'acme')
    expect(told).toEqual([])
    await vi.advanceTimersByTimeAsync(50)
    expect(told).toEqual([['', 'acme']])
    await vi.advanceTimersByTimeAsync(1000)
    expect(told).toHaveLength(1)
  })

  it('C11 tells at once what may close a breaker, and says once that it closed', async () => {
    const { breakers, told, closed } = setup(['acme'])
    breakers.opened('acme')
    breakers.worked('acme')
    await breakers.tell()
    expect(told).toEqual([['acme']])
    expect(closed).toEqual(['acme'])
    expect(breakers.isOpen('acme')).toBe(false)
  })

  it('tells what is untold before a failure is counted', async () => {
    const { breakers, told } = setup()
    breakers.worked('')
    await breakers.tell()
    expect(told).toEqual([['']])
    await vi.advanceTimersByTimeAsync(100)
    expect(told).toHaveLength(1)
  })

  it('names a store that does not answer, and goes on', async () => {
    const { breakers, told, errors, fail } = setup()
    fail(true)
    breakers.worked('')
    await breakers.tell()
    expect(errors).toHaveLength(1)
    fail(false)
    breakers.worked('')
    await breakers.tell()
    expect(told).toEqual([['']])
  })
})

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Bursts } from '../../../src/kernel/bursts.js'

describe('events that come in bursts', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  function setup() {
    const said: [string, number, number][] = []
    const bursts = new Bursts<number>({ say: (kind, items, count) => said.push([kind, items.length, count]) })
    return { bursts, said }
  }

  it('are one line with a count, and the first of them', () => {
    const { bursts, said } = setup()
    for (let n = 0; n < 500; n += 1) bursts.add('exhausted', n)
    expect(said).toEqual([])
    vi.advanceTimersByTime(1000)
    expect(said).toEqual([['exhausted', 20, 500]])
  })

  it('are rarer lines while they go on, and none is lost', () => {
    const { bursts, said } = setup()
    for (let second = 0; second < 600; second += 1) {
      bursts.add('exhausted', second)
      vi.advanceTimersByTime(1000)
    }
    expect(said.length).toBeLessThanOrEqual(13)
    bursts.flush()
    expect(said.reduce((sum, [, , count]) => sum + count, 0)).toBe(600)
  })

  it('begin anew after a quiet window, and kinds do not mix', () => {
    const { bursts, said } = setup()
    bursts.add('a', 1)
    bursts.add('b', 1)
    vi.advanceTimersByTime(10_000)
    bursts.add('a', 2)
    vi.advanceTimersByTime(1000)
    expect(said).toEqual([
      ['a', 1, 1],
      ['b', 1, 1],
      ['a', 1, 1],
    ])
  })

  it('are said at once when asked to, and not again', () => {
    const { bursts, said } = setup()
    bursts.add('a', 1, 3)
    bursts.flush()
    vi.advanceTimersByTime(10_000)
    expect(said).toEqual([['a', 1, 3]])
  })
})

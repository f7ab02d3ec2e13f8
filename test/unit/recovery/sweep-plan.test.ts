import { describe, expect, it } from 'vitest'
import { type SweepCursors, SweepPlan, type SweptPage } from '../../../src/recovery/sweep-plan.js'

const at = (failed: string, exhausted: string, permanent: string): SweepCursors => ({ failed, exhausted, permanent })

const page = (cursors: SweepCursors, more: Partial<SweptPage> = {}): SweptPage => ({
  cursors,
  held: false,
  current: true,
  reset: 0,
  ...more,
})

/** A plan whose fast pass is done. */
function settled(): SweepPlan {
  const plan = new SweepPlan()
  plan.turned(page(at('done', 'done', 'done')))
  return plan
}

describe('a sweep', () => {
  it('begins with big pages, one after the other, and leaves out a set that is through', () => {
    const plan = new SweepPlan()
    expect(plan.pageSize).toBe(250)
    expect(plan.cursors).toEqual(at('0', '0', '0'))
    expect(plan.turned(page(at('7', 'done', '9')))).toBe('more')
    expect(plan.cursors).toEqual(at('7', '', '9'))
  })

  it('is through when all three sets are, and goes on with small pages from the start', () => {
    const plan = new SweepPlan()
    plan.turned(page(at('7', 'done', 'done')))
    expect(plan.turned(page(at('done', '', '')))).toBe('through')
    expect(plan.cursors).toEqual(at('0', '0', '0'))
    expect(plan.pageSize).toBe(25)
  })

  it('rests after forty big pages, and goes on where it was', () => {
    const plan = new SweepPlan()
    const turns = Array.from({ length: 41 }, (_, index) => plan.turned(page(at(String(index + 1), 'done', 'done'))))
    expect(turns.slice(0, 39)).toEqual(Array(39).fill('more'))
    expect(turns[39]).toBe('rest')
    expect(turns[40]).toBe('more')
    expect(plan.cursors.failed).toBe('41')
  })

  it('C10 rests when the pace holds it, and tries that page again', () => {
    const plan = new SweepPlan()
    expect(plan.turned(page(at('3', '0', 'done'), { held: true }))).toBe('rest')
    expect(plan.cursors).toEqual(at('3', '0', ''))
  })

  it('turns one small page a cycle once it is settled, round and round', () => {
    const plan = settled()
    expect(plan.turned(page(at('5', 'done', '6')))).toBe('rest')
    expect(plan.cursors).toEqual(at('5', '0', '6'))
  })

  it('C7 goes through everything again when another compared the jobs with other settings', () => {
    const plan = settled()
    expect(plan.turned(page(at('5', '6', '7'), { current: false }))).toBe('rest')
    expect(plan.pageSize).toBe(250)
    expect(plan.cursors).toEqual(at('0', '0', '0'))
  })

  it('starts over when the queue was in other hands', () => {
    const plan = settled()
    plan.startOver()
    expect(plan.pageSize).toBe(250)
  })
})

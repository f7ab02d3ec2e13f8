import { describe, expect, it } from 'vitest'
import { QueueTracker } from '../../../src/watchdog/queue-tracker.js'
import { factsOf } from '../../support/findings.js'

const thresholds = { noWorkerAfterMs: 30_000, notMovingAfterMs: 120_000 }
const waiting = factsOf({ waiting: 3, head: '1:0', eligible: 1, free: 1 })

function setup() {
  const tracker = new QueueTracker(() => thresholds)
  let now = 1000
  const held = (facts = waiting) => tracker.observe(facts, now).map(({ cause, heldMs }) => `${cause} ${heldMs}`)
  return {
    tracker,
    held,
    after: (ms: number, facts = waiting) => {
      now += ms
      return held(facts)
    },
  }
}

describe('the tracker of a queue', () => {
  it('times a standstill from its own first look, and forgets it when another job is next', () => {
    const { held, after } = setup()
    expect(held()).toEqual(['queue_not_moving 0'])
    expect(after(5000)).toEqual(['queue_not_moving 5000'])
    expect(after(1000, { ...waiting, head: '2:0' })).toEqual([])
    expect(after(1000, { ...waiting, head: '2:0' })).toEqual(['queue_not_moving 1000'])
  })

  it('the same job put back after a start counts as moved', () => {
    const { held, after } = setup()
    held()
    expect(after(1000, { ...waiting, head: '1:1' })).toEqual([])
  })

  it.each([
    ['paused', { paused: true }],
    ['rate-limited', { limitedMs: 10 }],
    ['at its own limit', { maxed: true }],
    ['busy in all slots', { free: 0 }],
    ['empty', { waiting: 0, head: undefined }],
  ] as const)('A6 a queue that is %s is not standing still, and its time starts anew after it', (_name, changes) => {
    const { held, after } = setup()
    held()
    expect(after(200_000, factsOf({ ...waiting, ...changes, head: 'head' in changes ? undefined : '1:0' }))).toEqual([])
    expect(after(1000)).toEqual(['queue_not_moving 0'])
  })

  it('B8 without any eligible worker it is that, from the first look; busy ones are eligible', () => {
    const { held, after } = setup()
    const alone = { ...waiting, eligible: 0, free: 0 }
    expect(held({ ...waiting, free: 0 })).toEqual([])
    expect(after(10, alone)).toEqual(['no_eligible_worker 0'])
    expect(after(30_001, alone)).toEqual(['no_eligible_worker 30001'])
    expect(after(10)).toEqual(['queue_not_moving 0'])
  })

  it('exhausted jobs, those failed for good and an open breaker alone are no trouble, however long', () => {
    const { held, after } = setup()
    const resting = factsOf({ failed: 15, exhausted: 12, permanent: 3, delayed: 40, breakersOpen: ['', 'acme'] })
    expect(held(resting)).toEqual([])
    expect(after(600_000, resting)).toEqual([])
    expect(after(12 * 3_600_000, { ...resting, eligible: 0, free: 0 })).toEqual([])
  })

  it('B8 a paused queue without workers is no trouble', () => {
    const { held } = setup()
    expect(held({ ...waiting, eligible: 0, free: 0, paused: true })).toEqual([])
  })

  it('times each overdue scheduler by itself and names the oldest', () => {
    const { tracker } = setup()
    const look = (overdueSchedulers: string[], now: number) => tracker.observe(factsOf({ overdueSchedulers }), now)
    look(['a'], 0)
    expect(look(['b', 'a'], 1000)).toMatchObject([{ cause: 'scheduler_overdue', scheduler: 'a', heldMs: 1000 }])
    expect(look(['b'], 2000)).toMatchObject([{ scheduler: 'b', heldMs: 1000 }])
    expect(look([], 3000)).toEqual([])
    expect(look(['b'], 4000)).toMatchObject([{ scheduler: 'b', heldMs: 0 }])
  })

  it('B5 after a blindness nothing that it saw before counts', () => {
    const { tracker, held, after } = setup()
    held()
    tracker.forget()
    expect(after(200_000)).toEqual(['queue_not_moving 0'])
  })
})

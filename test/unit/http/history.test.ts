import { describe, expect, it } from 'vitest'
import { History, STEP_MS } from '../../../src/http/history.js'
import type { FleetView } from '../../../src/http/read-model.js'

const KEPT = 180

function fleetOf(waiting: number, supervisors: readonly string[] = ['a']): FleetView {
  return {
    supervisors: supervisors.map((name) => ({
      ...{ name, state: 'running', heartbeatAgeMs: 0, slots: [], jobs: [] },
      loops: [
        {
          ...{ loop: 'fetch', queue: 'img', state: 'running', phase: 'x', inFlight: true, cycles: 1, skipped: 0 },
          ...{ lagMs: waiting + 0.4, thresholdMs: 1, stale: false },
        },
      ],
    })),
    queues: [
      {
        ...{ queue: 'img', waiting, active: 1, delayed: 2, completed: 0, failed: 0, exhausted: 3, permanent: 0 },
        ...{ breakersOpen: [], paused: false, limitedMs: 0, maxed: false, head: undefined, headAgeMs: undefined },
        ...{ overdueSchedulers: [], eligible: 1, free: 1 },
      },
    ],
    incidents: [],
  }
}

function setup() {
  const history = new History()
  let samples = 0
  const record = (fleet: FleetView | undefined) => history.record(++samples * STEP_MS, fleet)
  return { history, record }
}

describe('the history', () => {
  it('is empty before the first sample', () => {
    expect(setup().history.view()).toEqual({ stepMs: STEP_MS, times: [], loops: [], queues: [] })
  })

  it('has a value for each sample, and null where nothing could be read', () => {
    const { history, record } = setup()
    record(fleetOf(7))
    record(undefined)
    record(fleetOf(9))
    expect(history.view()).toEqual({
      stepMs: STEP_MS,
      times: [5000, 10_000, 15_000],
      loops: [{ supervisor: 'a', loop: 'fetch', queue: 'img', lagMs: [7, null, 9] }],
      queues: [
        {
          queue: 'img',
          waiting: [7, null, 9],
          delayed: [2, null, 2],
          active: [1, null, 1],
          exhausted: [3, null, 3],
          oldestWaitingMs: [0, null, 0],
        },
      ],
    })
  })

  it('shifts: it keeps the last 15 minutes and no more', () => {
    const { history, record } = setup()
    for (let i = 1; i <= KEPT + 20; i++) record(fleetOf(i))
    const { times, queues } = history.view()
    expect(times).toHaveLength(KEPT)
    expect([times[0], times.at(-1)]).toEqual([21 * STEP_MS, (KEPT + 20) * STEP_MS])
    expect(queues[0]?.waiting).toEqual(Array.from({ length: KEPT }, (_, i) => i + 21))
  })

  it('shows fewer minutes when asked', () => {
    const { history, record } = setup()
    for (let i = 1; i <= 30; i++) record(fleetOf(i))
    expect(history.view(1).queues[0]?.waiting).toEqual(Array.from({ length: 12 }, (_, i) => i + 19))
  })

  it('keeps the curve of a supervisor that left for as long as it is in the window, and then forgets it', () => {
    const { history, record } = setup()
    record(fleetOf(1, ['a', 'b']))
    for (let i = 2; i <= KEPT; i++) record(fleetOf(i, ['a']))
    const left = history.view().loops.find(({ supervisor }) => supervisor === 'b')
    expect(left?.lagMs).toEqual([1, ...Array.from({ length: KEPT - 1 }, () => null)])
    record(fleetOf(1, ['a']))
    expect(history.view().loops.map(({ supervisor }) => supervisor)).toEqual(['a'])
  })

  it('does not show an old value for one that comes back after a gap', () => {
    const { history, record } = setup()
    record(fleetOf(1, ['a', 'b']))
    for (let i = 2; i < KEPT; i++) record(fleetOf(i, ['a']))
    record(fleetOf(5, ['a', 'b']))
    const { lagMs = [] } = history.view().loops.find(({ supervisor }) => supervisor === 'b') ?? {}
    expect(lagMs.filter((value) => value !== null)).toEqual([1, 5])
  })
})

import { describe, expect, it } from 'vitest'
import { Liveness } from '../../../src/heartbeat/liveness.js'
import { beatOf, jobOf, loopOf, threadOf } from '../../support/beats.js'

const TIMEOUT_MS = 5000
const THRESHOLD_MS = 60_000
const stale = beatOf({ loops: [loopOf({ ageMs: 66_000, phase: 'moveToActive' })] })

/** Beats reach the store every second in the given stretch of time. */
function setup() {
  const liveness = new Liveness(TIMEOUT_MS)
  const reached = (from: number, to: number) => {
    for (let now = from; now <= to; now += 1000) liveness.accepted(now)
  }
  return { liveness, reached }
}

describe('the verdict over one process', () => {
  it('is good before anything was looked at, and of a healthy beat', () => {
    const { liveness } = setup()
    expect(liveness.problem(0)).toBeUndefined()
    liveness.sampled(beatOf())
    expect(liveness.problem(0)).toBeUndefined()
  })

  it('A3 is bad when the main loop is blocked beyond its threshold, and not exactly at it, whether the store is there or not', () => {
    const { liveness } = setup()
    liveness.sampled(beatOf({ main: { ageMs: 5000, thresholdMs: 5000 } }))
    expect(liveness.problem(0)).toBeUndefined()
    liveness.sampled(beatOf({ main: { ageMs: 5001, thresholdMs: 5000 } }))
    expect(liveness.problem(0)).toBe('supervisor:a/main: loop_blocked for 5 s')
  })

  it('is bad when a loop is stale while the store is there, and names the loop and its phase', () => {
    const { liveness, reached } = setup()
    reached(0, 61_000)
    liveness.sampled(stale)
    expect(liveness.problem(61_000)).toBe('supervisor:a/loop:fetch:img: poll_stale for 61 s, in moveToActive')
  })

  it('B3 does not count a stale loop while no beat reaches the store, nor for a threshold after the first that does again', () => {
    const { liveness, reached } = setup()
    reached(0, 100_000)
    liveness.sampled(stale)
    const away = 100_000 + TIMEOUT_MS
    expect(liveness.problem(away)).toBeDefined()
    expect(liveness.problem(away + 1)).toBeUndefined()
    const back = 300_000
    reached(back, back + THRESHOLD_MS)
    expect(liveness.problem(back + THRESHOLD_MS)).toBeUndefined()
    reached(back + THRESHOLD_MS, back + THRESHOLD_MS + 1000)
    expect(liveness.problem(back + THRESHOLD_MS + 1)).toBeDefined()
  })

  it('is good again when the loop moves', () => {
    const { liveness, reached } = setup()
    reached(0, 61_000)
    liveness.sampled(stale)
    liveness.sampled(beatOf())
    expect(liveness.problem(61_000)).toBeUndefined()
  })

  it('A6 leaves locks, threads and jobs to those who can end a single one', () => {
    const { liveness, reached } = setup()
    reached(0, 1_000_000)
    liveness.sampled(
      beatOf({
        loops: [loopOf({ lockAgeMs: 31_000, lockDurationMs: 30_000 })],
        threads: [threadOf({ tickAgeMs: 99_000 })],
        jobs: [jobOf({ silentMs: 999_000 })],
      }),
    )
    expect(liveness.problem(1_000_000)).toBeUndefined()
  })
})

import { describe, expect, it } from 'vitest'
import { type Beat, type JobProgress, lateIn } from '../../../src/heartbeat/beat.js'
import { Terminations } from '../../../src/heartbeat/terminations.js'
import { beatOf, jobOf } from '../../support/beats.js'

/** A beat of a queue that wants stuck jobs ended, with one job that has been silent for too long. */
function beatWith(job: Partial<JobProgress>): Beat {
  return beatOf({
    jobs: [jobOf({ silentMs: 6000, ...job })],
    queues: [{ queue: 'img', slots: 2, busy: 1, eligible: true, silentAfterMs: 5000, onStuck: 'terminate' }],
  })
}

/** What is ordered after two beats, one interval apart, have been taken. */
function ordersAfter(beat: Beat) {
  const terminations = new Terminations()
  return [0, beat.intervalMs].flatMap((now) => {
    terminations.sampled(beat, lateIn(beat))
    return terminations.accepted(beat, lateIn(beat), now)
  })
}

describe('terminations of jobs without a thread', () => {
  it('a silent job in a process of its own is ended once', () => {
    expect(ordersAfter(beatWith({ thread: 0, alone: true }))).toMatchObject([
      { queue: 'img', jobId: '17', attempt: 1, fence: 1, cause: 'job_silent' },
    ])
  })

  it('a launch that takes too long is ended, under its own cause', () => {
    const job = jobOf({ thread: 0, alone: true, launching: true, runningMs: 60_001, silentMs: 10 })
    const queues = [
      { queue: 'img', slots: 2, busy: 1, eligible: true, silentAfterMs: 5000, launchTimeoutMs: 60_000, onStuck: 'terminate' },
    ] as const
    expect(ordersAfter(beatOf({ jobs: [job], queues }))).toMatchObject([{ jobId: '17', fence: 1, cause: 'launch_overdue' }])
    expect(ordersAfter(beatOf({ jobs: [{ ...job, runningMs: 60_000 }], queues }))).toEqual([])
  })

  it('a job that no thread has begun is left alone: nobody is to be charged for it', () => {
    expect(ordersAfter(beatWith({ thread: 0 }))).toEqual([])
  })
})

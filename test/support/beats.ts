/** Beats of a supervisor that does not exist, healthy unless a test says otherwise. */
import type { Beat, JobProgress, LoopProgress, ThreadProgress } from '../../src/heartbeat/beat.js'
import type { SeenBeat } from '../../src/heartbeat/seen-beat.js'

export function loopOf(changes: Partial<LoopProgress> = {}): LoopProgress {
  return {
    loop: 'fetch',
    queue: 'img',
    state: 'polling',
    cycles: 10,
    skipped: 0,
    inFlight: true,
    phase: 'waitForJob',
    ageMs: 1000,
    limitMs: 5000,
    thresholdMs: 60_000,
    graceMs: 30_000,
    ...changes,
  }
}

export function threadOf(changes: Partial<ThreadProgress> = {}): ThreadProgress {
  return { queue: 'img', number: 1, generation: 1, jobs: 1, tickAgeMs: 10, ...changes }
}

export function jobOf(changes: Partial<JobProgress> = {}): JobProgress {
  return { queue: 'img', id: '17', attempt: 1, fence: 1, thread: 1, runningMs: 100, silentMs: 100, ...changes }
}

export function beatOf(changes: Partial<Beat> = {}): Beat {
  return {
    v: 1,
    supervisor: 'a',
    incarnation: 'a-1',
    seq: 1,
    host: 'host',
    pid: 1,
    version: '0.0.0',
    state: 'running',
    uptimeMs: 60_000,
    intervalMs: 1000,
    timeoutMs: 5000,
    main: { ageMs: 5, thresholdMs: 5000 },
    threadBlockedMs: 10_000,
    loops: [loopOf()],
    threads: [],
    jobs: [],
    queues: [{ queue: 'img', slots: 2, busy: 0, eligible: true, silentAfterMs: 300_000, onStuck: 'report' }],
    ...changes,
  }
}

export function seenOf(beat: Beat = beatOf(), changes: Partial<SeenBeat> = {}): SeenBeat {
  const { supervisor, incarnation } = beat
  return {
    supervisor,
    incarnation,
    generation: 1,
    ageMs: 100,
    overdueMs: -4900,
    bye: false,
    beat,
    broken: undefined,
    ...changes,
  }
}

/** The beat of a supervisor whose silence outlasted its timeout. */
export function deadOf(beat: Beat = beatOf(), overdueMs = 1): SeenBeat {
  return seenOf(beat, { ageMs: 5000 + overdueMs, overdueMs })
}

import { describe, expect, it } from 'vitest'
import { type Beat, type LoopProgress, lateIn } from '../../../src/heartbeat/beat.js'
import { boardLoopProbe } from '../../../src/heartbeat/loop-probe.js'
import { sampleBeat } from '../../../src/heartbeat/sampler.js'
import type { SentinelIdentity } from '../../../src/heartbeat/sentinel-protocol.js'
import { FETCH, identity, QUEUE, RECONCILE, testBoard } from '../../support/boards.js'

const HOUR_MS = 3_600_000
const WALL = 1_700_000_000_000
const THRESHOLD_MS = identity.loops.pollStaleThresholdMs
const GRACE_MS = identity.loops.startGraceMs

function setup(who: SentinelIdentity = identity) {
  const { board, time } = testBoard()
  const fetch = board.loopWriter(FETCH)
  const sample = (): Beat => {
    board.mainTurned()
    return sampleBeat(board, who, { seq: 1, uptimeMs: 10, wallNow: WALL })
  }
  const loop = (index = FETCH): LoopProgress => {
    const found = sample().loops[index]
    if (!found) throw new Error('no such loop')
    return found
  }
  const causes = () => lateIn(sample()).map(({ cause }) => cause)
  const call = (phase: 'waitForJob' | 'moveToActive' = 'moveToActive', limitMs = 0) => {
    fetch.oldest(1, board.stamp(), phase, limitMs)
    fetch.started()
  }
  const back = () => {
    fetch.ended()
    fetch.oldest(0, 0, '', 0)
  }
  const take = (id: string) => {
    const ref = board.claimJob(QUEUE, id, 1, 1)
    if (!ref) throw new Error('no free cell')
    return ref
  }
  return { board, time, fetch, sample, loop, causes, call, back, take }
}

describe('sample of a loop', () => {
  it('A1 before any poll there is neither a start nor an end, and nothing is late', () => {
    const { fetch, loop, causes } = setup()
    fetch.state('polling')
    expect(loop()).not.toHaveProperty('startedAt')
    expect(loop()).not.toHaveProperty('endedAt')
    expect(causes()).toEqual([])
  })

  it('A1 polling without a poll past the grace is never_polled', () => {
    const { fetch, time, causes } = setup()
    fetch.state('polling')
    time.freeze(GRACE_MS)
    expect(causes()).toEqual([])
    time.freeze(1)
    expect(causes()).toEqual(['never_polled'])
  })

  it('the grace begins when the loop begins to poll, not while the process is still starting', () => {
    const { fetch, time, causes } = setup()
    time.freeze(GRACE_MS * 2)
    fetch.state('polling')
    expect(causes()).toEqual([])
  })

  it('A3 in flight for exactly the threshold is not stale; one ms more is', () => {
    const { fetch, time, call, causes } = setup()
    fetch.state('polling')
    call()
    time.freeze(THRESHOLD_MS)
    expect(causes()).toEqual([])
    time.freeze(1)
    expect(causes()).toEqual(['poll_stale'])
  })

  it('A3 the last end counts from its own moment, exactly', () => {
    const { fetch, time, call, back, causes, loop } = setup()
    fetch.state('polling')
    call()
    time.freeze(400)
    back()
    time.freeze(THRESHOLD_MS)
    expect(loop()).toMatchObject({
      inFlight: false,
      ageMs: THRESHOLD_MS,
      startedAt: WALL - THRESHOLD_MS - 400,
      endedAt: WALL - THRESHOLD_MS,
    })
    expect(causes()).toEqual([])
    time.freeze(1)
    expect(causes()).toEqual(['poll_stale'])
  })

  it('A4 a first cycle that never resolves is stale, without an end, and later ticks change neither stamp', () => {
    const { board, time, loop, causes } = setup()
    const writer = board.loopWriter(RECONCILE)
    const probe = boardLoopProbe(writer, board)
    writer.state('polling')
    probe.started()
    probe.phase('measure')
    time.freeze(THRESHOLD_MS)
    probe.skipped()
    probe.skipped()
    time.freeze(1)
    expect(loop(RECONCILE)).toMatchObject({
      cycles: 1,
      skipped: 2,
      inFlight: true,
      phase: 'measure',
      startedAt: WALL - THRESHOLD_MS - 1,
    })
    expect(loop(RECONCILE)).not.toHaveProperty('endedAt')
    expect(causes()).toEqual(['poll_stale'])
  })

  it('a probe’s cycle begins, names its phase and ends on the board; a phase unknown to the board is shown as none', () => {
    const { board, time, loop } = setup()
    const probe = boardLoopProbe(board.loopWriter(RECONCILE), board)
    probe.started()
    probe.phase('reap')
    probe.phase('no such phase')
    expect(loop(RECONCILE)).toMatchObject({ inFlight: true, phase: '' })
    probe.phase('reap')
    time.freeze(20)
    probe.ended()
    expect(loop(RECONCILE)).toMatchObject({ inFlight: false, phase: 'reap', startedAt: WALL - 20, endedAt: WALL })
  })

  it('a call that blocks on purpose is measured from the end of its limit, and no later than the call itself', () => {
    const { fetch, time, call, back, causes } = setup()
    fetch.state('polling')
    call('waitForJob', 10_000)
    time.freeze(THRESHOLD_MS + 10_000)
    expect(causes()).toEqual([])
    time.freeze(1)
    expect(causes()).toEqual(['poll_stale'])
    back()
    time.freeze(THRESHOLD_MS + 1)
    expect(causes()).toEqual(['poll_stale'])
  })

  it.each(['paused', 'draining', 'stopped'] as const)(
    'A6 %s for an hour it is no wedge, and the return starts from zero',
    (state) => {
      const { fetch, time, call, back, causes, loop } = setup()
      fetch.state('polling')
      call()
      back()
      fetch.state(state)
      time.freeze(HOUR_MS)
      expect(causes()).toEqual([])
      fetch.state('polling')
      expect(loop()).toMatchObject({ ageMs: 0 })
      expect(causes()).toEqual([])
      time.freeze(THRESHOLD_MS + 1)
      expect(causes()).toEqual(['poll_stale'])
    },
  )

  it('A6 all slots full with hour-long jobs is no wedge, and the first free slot starts from zero', () => {
    const { board, fetch, time, call, back, take, causes, loop } = setup()
    fetch.state('polling')
    call()
    const refs = [take('a'), take('b')]
    back()
    time.freeze(HOUR_MS)
    for (const ref of refs) {
      board.jobAlive(ref)
      board.jobLocked(ref, board.stamp())
    }
    expect(loop().state).toBe('full')
    expect(causes()).toEqual([])
    for (const ref of refs.slice(0, 1)) board.freeJob(ref)
    expect(loop()).toMatchObject({ state: 'polling', ageMs: 0 })
    time.freeze(THRESHOLD_MS + 1)
    for (const ref of refs) board.jobLocked(ref, board.stamp())
    expect(causes()).toEqual(['poll_stale'])
  })

  it('a call that hangs while all slots are full is late', () => {
    const { fetch, time, call, take, causes, loop } = setup()
    fetch.state('polling')
    call()
    take('a')
    take('b')
    time.freeze(THRESHOLD_MS + 1)
    expect(loop().state).toBe('full')
    expect(causes()).toContain('poll_stale')
  })

  it('A6 rate-limited it rests until the limit is over, and must come back from then on', () => {
    const { fetch, time, call, back, causes } = setup()
    fetch.state('polling')
    call()
    time.freeze(300)
    fetch.limitedFor(HOUR_MS)
    fetch.state('limited')
    back()
    time.freeze(HOUR_MS + THRESHOLD_MS)
    expect(causes()).toEqual([])
    time.freeze(1)
    expect(causes()).toEqual(['poll_stale'])
  })

  it('a limit that was over before the last end excuses nothing', () => {
    const { fetch, time, call, back, causes } = setup()
    fetch.limitedFor(1000)
    fetch.state('limited')
    time.freeze(5000)
    call()
    back()
    time.freeze(THRESHOLD_MS)
    expect(causes()).toEqual([])
    time.freeze(1)
    expect(causes()).toEqual(['poll_stale'])
  })

  it('shows the oldest lock of the queue’s running jobs, and none without jobs', () => {
    const { board, time, take, loop, causes } = setup()
    expect(loop()).not.toHaveProperty('lockAgeMs')
    take('a')
    time.freeze(30_000)
    const fresh = take('b')
    expect(loop()).toMatchObject({ lockAgeMs: 30_000, lockDurationMs: 30_000 })
    expect(causes()).toEqual([])
    time.freeze(1)
    board.jobLocked(fresh, board.stamp())
    expect(causes()).toEqual(['lock_late'])
    expect(loop(RECONCILE)).not.toHaveProperty('lockAgeMs')
  })
})

describe('sample of threads and jobs', () => {
  it('A15 idle threads and threads that come and go are never late', () => {
    const { board, time, causes } = setup()
    board.claimThread(QUEUE, 11)
    time.freeze(HOUR_MS)
    board.claimThread(QUEUE, 12)
    board.freeThread(11)
    board.claimThread(QUEUE, 13)
    time.freeze(HOUR_MS)
    expect(causes()).toEqual([])
  })

  it('a job is shown with its thread’s place, its step and its ages', () => {
    const { board, time, take, sample } = setup()
    board.claimThread(QUEUE, 11)
    const second = board.claimThread(QUEUE, 12)
    const ref = take('a')
    expect(sample().jobs).toMatchObject([{ queue: 'mail', id: 'a', thread: 0 }])
    board.jobOnThread(ref, second)
    time.freeze(20)
    board.jobStep(ref, 'clone', board.stamp())
    time.freeze(5)
    expect(sample().jobs).toEqual([
      { queue: 'mail', id: 'a', attempt: 1, fence: 1, thread: 2, runningMs: 25, silentMs: 5, step: 'clone', stepMs: 5 },
    ])
  })

  it('a job in a process of its own is shown as such, on no thread', () => {
    const { board, take, sample } = setup()
    board.jobAlone(take('a'))
    expect(sample().jobs).toMatchObject([{ id: 'a', thread: 0, alone: true }])
  })

  it('D12 a session that is being started is shown as launching, with how long that may take, until it shows life', () => {
    const [queue] = identity.queues
    if (!queue) throw new Error('no queue')
    const { board, time, take, sample, causes } = setup({ ...identity, queues: [{ ...queue, launchTimeoutMs: 4000 }] })
    const ref = take('a')
    board.jobLaunching(ref)
    board.jobStep(ref, 'launch workspace', board.stamp())
    time.freeze(4000)
    board.jobAlive(ref)
    expect(sample().queues).toMatchObject([{ launchTimeoutMs: 4000 }])
    expect(sample().jobs).toMatchObject([
      { thread: 0, alone: true, launching: true, step: 'launch workspace', runningMs: 4000 },
    ])
    expect(causes()).toEqual([])
    time.freeze(1)
    expect(causes()).toEqual(['launch_overdue'])
    board.jobAlone(ref)
    expect(sample().jobs).toMatchObject([{ thread: 0, alone: true }])
    expect(sample().jobs[0]).not.toHaveProperty('launching')
    expect(causes()).toEqual([])
  })

  it('A13 a launch is not late for the time during which the whole process stood still', () => {
    const [queue] = identity.queues
    if (!queue) throw new Error('no queue')
    const who = { ...identity, queues: [{ ...queue, lockDurationMs: 2 * HOUR_MS, launchTimeoutMs: 4000 }] }
    const { board, time, take } = setup(who)
    board.jobLaunching(take('a'))
    const pause = { from: time.nowMs, to: time.nowMs + HOUR_MS }
    const causesAfter = (ms: number) => {
      time.freeze(ms)
      board.mainTurned()
      const moment = { seq: 1, uptimeMs: 10, wallNow: WALL, monotonicNow: time.nowMs, pauses: [pause] }
      return lateIn(sampleBeat(board, who, moment)).map(({ cause }) => cause)
    }
    expect(causesAfter(HOUR_MS + 4000)).toEqual([])
    expect(causesAfter(1)).toEqual(['launch_overdue'])
  })

  it('counts busy slots, and takes jobs only while it runs and its fetch loop does', () => {
    const { board, fetch, take, sample } = setup()
    const eligible = () => sample().queues[0]?.eligible
    expect(eligible()).toBe(false)
    fetch.state('polling')
    take('a')
    expect(sample().queues).toMatchObject([{ queue: 'mail', slots: 2, busy: 1, eligible: true }])
    fetch.state('paused')
    expect(eligible()).toBe(false)
    fetch.state('limited')
    expect(eligible()).toBe(true)
    board.processState = 'draining'
    expect(eligible()).toBe(false)
  })
})

describe('sample of a process', () => {
  it('A12 two incarnations of one name have boards of their own: the new one bears nothing of the old', () => {
    const old = setup()
    old.fetch.state('polling')
    old.call()
    old.time.freeze(THRESHOLD_MS + 1)
    const fresh = setup({ ...identity, incarnation: 'i2', group: 'site-1' })
    fresh.fetch.state('polling')
    expect(old.causes()).toEqual(['poll_stale'])
    expect(fresh.causes()).toEqual([])
    expect(old.sample()).toMatchObject({ supervisor: 'alpha', incarnation: 'i1' })
    expect(fresh.sample()).toMatchObject({ supervisor: 'alpha', incarnation: 'i2', group: 'site-1' })
  })

  it('A13 time during which the whole process stood still makes nobody late, and later troubles are late again', () => {
    const { board, time, fetch, call, take } = setup()
    fetch.state('polling')
    call()
    const cell = board.claimThread(QUEUE, 11)
    board.threadTook(cell)
    board.jobOnThread(take('a'), cell)
    time.freeze(500)
    const pause = { from: time.nowMs, to: time.nowMs + HOUR_MS }
    time.freeze(HOUR_MS + 20)
    const causesNow = () =>
      lateIn(
        sampleBeat(board, identity, { seq: 1, uptimeMs: 10, wallNow: WALL, monotonicNow: time.nowMs, pauses: [pause] }),
      ).map(({ cause, ageMs }) => [cause, ageMs])
    expect(causesNow()).toEqual([])
    time.freeze(5000 - 520)
    expect(causesNow()).toEqual([])
    time.freeze(1)
    expect(causesNow()).toEqual([['loop_blocked', 5001]])
  })
})

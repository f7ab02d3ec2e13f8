import { describe, expect, it } from 'vitest'
import { BeatBoard } from '../../../src/heartbeat/beat-board.js'
import { sampleBeat } from '../../../src/heartbeat/sampler.js'
import type { SentinelIdentity, Served } from '../../../src/heartbeat/sentinel-protocol.js'
import { Membership, type MembershipSentinel } from '../../../src/watch/membership.js'

const IDENTITY: SentinelIdentity = {
  supervisor: 'app',
  incarnation: 'i1',
  host: 'h',
  pid: 1,
  version: '0',
  heartbeat: { intervalMs: 1000, timeoutMs: 5000, loopBlockedMs: 5000, threadBlockedMs: 10_000 },
  loops: { pollStaleThresholdMs: 60_000, startGraceMs: 30_000 },
  queues: [],
}

/** A stay whose sentinel is the test: it sees what a beat would say. */
function setup({ startFails = false } = {}) {
  let now = 0
  let served: Served = { layout: { queues: [], loops: [] }, queues: [] }
  let handle: BeatBoard['handle'] | undefined
  const said: string[] = []
  let turn: () => void = () => undefined
  const sentinel: MembershipSentinel = {
    serve: (now) => {
      served = now
    },
    goodbye: async () => {
      said.push('goodbye')
      return true
    },
    terminate: async () => void said.push('terminated'),
  }
  const membership = new Membership({
    monotonicMs: () => now,
    start: async (board, queues) => {
      if (startFails) throw new Error('the name is taken')
      handle = board.handle
      served = { layout: board.layout, queues }
      return sentinel
    },
    everyTick: (run) => {
      turn = run
      return () => said.push('ticks ended')
    },
    onError: (error) => said.push(`error: ${String(error)}`),
    onEnd: () => said.push('ended'),
  })
  const fetch = (name: string, slots = 1) => ({
    loop: { loop: 'fetch', queue: name },
    queue: { name, slots, silentAfterMs: 1000, lockDurationMs: 30_000, onStuck: 'report' as const },
  })
  return {
    membership,
    said,
    fetch,
    turn: () => turn(),
    advance: (ms: number) => {
      now += ms
    },
    beat: () => {
      if (!handle) throw new Error('not started')
      const board = new BeatBoard(handle, () => now)
      board.relayout(served.layout)
      return sampleBeat(board, { ...IDENTITY, queues: served.queues }, { seq: 1, uptimeMs: now, wallNow: now })
    },
  }
}

describe('a process that watches', () => {
  it('shows what comes while it beats, and no more what is gone; a place is used again from a clean start', async () => {
    const { membership, fetch, beat, advance } = setup()
    const mail = membership.watch(fetch('mail'))
    await mail.ready
    const print = membership.watch(fetch('print', 3))
    print.writer.started()
    expect(beat().queues).toMatchObject([{ queue: 'mail' }, { queue: 'print', slots: 3 }])
    await print.leave()
    expect(beat().loops).toMatchObject([{ queue: 'mail' }])
    advance(5000)
    membership.watch({ loop: { loop: 'poll', thresholdMs: 700, graceMs: 900 } })
    expect(beat().loops).toMatchObject([
      { queue: 'mail' },
      { loop: 'poll', cycles: 0, ageMs: 0, thresholdMs: 700, graceMs: 900, state: 'starting' },
    ])
    expect(beat().queues).toHaveLength(1)
  })

  it('whose two workers serve one queue has two loops and one queue with the slots of both', async () => {
    const { membership, fetch, beat } = setup()
    const one = membership.watch(fetch('mail', 1))
    const two = membership.watch(fetch('mail', 2))
    await two.ready
    one.writer.state('polling')
    two.writer.state('polling')
    one.board.claimJob(one.queueIndex, 'j1', 1, 1)
    expect(beat().loops).toMatchObject([
      { loop: 'fetch', queue: 'mail', state: 'full' },
      { loop: 'fetch-2', queue: 'mail', state: 'polling' },
    ])
    expect(beat().queues).toMatchObject([{ queue: 'mail', slots: 3, busy: 1, eligible: true }])
  })

  it('writes nothing into the place of another once it has left', async () => {
    const { membership, fetch, beat } = setup()
    const first = membership.watch(fetch('mail'))
    const gone = membership.watch({ loop: { loop: 'poll' } })
    await first.ready
    await gone.leave()
    membership.watch({ loop: { loop: 'other' } })
    gone.writer.started()
    expect(beat().loops.find(({ loop }) => loop === 'other')).toMatchObject({ cycles: 0 })
  })

  it('shows the names of phases that nobody knew before', async () => {
    const { membership, beat } = setup()
    const place = membership.watch({ loop: { loop: 'poll' } })
    await place.ready
    place.knowPhase('call the API')
    place.writer.oldest(1, place.board.stamp(), 'call the API', 0)
    expect(beat().loops).toMatchObject([{ phase: 'call the API', inFlight: true }])
  })

  it('refuses a second loop of the same name', () => {
    const { membership } = setup()
    membership.watch({ loop: { loop: 'poll' } })
    expect(() => membership.watch({ loop: { loop: 'poll' } })).toThrow('loop "poll": is watched already')
  })

  it('says goodbye with the last that leaves, once', async () => {
    const { membership, fetch, said } = setup()
    const one = membership.watch(fetch('mail'))
    const two = membership.watch(fetch('print'))
    await one.ready
    await one.leave()
    expect(said).toEqual([])
    await Promise.all([two.leave(), two.leave()])
    expect(said).toEqual(['ended', 'goodbye', 'terminated', 'ticks ended'])
  })

  it('turns: the main thread is stamped, and every watched thing looked at', async () => {
    const { membership, turn, advance, beat } = setup()
    let looks = 0
    const onTick = () => {
      looks += 1
    }
    const place = membership.watch({ loop: { loop: 'poll' }, onTick })
    await place.ready
    advance(4000)
    expect(beat().main.ageMs).toBe(4000)
    turn()
    expect(beat().main.ageMs).toBe(0)
    expect(looks).toBe(2)
  })

  it('that cannot register says so, and rejects what waits for it', async () => {
    const { membership, said } = setup({ startFails: true })
    const place = membership.watch({ loop: { loop: 'poll' } })
    await expect(place.ready).rejects.toThrow('the name is taken')
    expect(said).toEqual(['error: Error: the name is taken'])
  })
})

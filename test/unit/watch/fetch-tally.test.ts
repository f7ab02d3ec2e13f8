import { describe, expect, it } from 'vitest'
import { BeatBoard } from '../../../src/heartbeat/beat-board.js'
import { FetchTally } from '../../../src/watch/fetch-tally.js'
import { deferred } from '../../support/deferred.js'

function setup() {
  let now = 0
  const board = BeatBoard.create(
    { queues: [{ name: 'mail', threads: 0, slots: 1 }], loops: [{ loop: 'fetch', queue: 'mail' }] },
    () => now,
  )
  const tally = new FetchTally(board.loopWriter(0), () => board.stamp())
  return {
    tally,
    loop: () => board.readLoop(0),
    /** Time passes, then the main thread ticks. */
    tickAfter: (ms: number) => {
      now += ms
      tally.tick()
    },
    advance: (ms: number) => {
      now += ms
    },
  }
}

describe('a watched fetch loop', () => {
  it('with calls that come back shows their number and the last end, never one in flight', async () => {
    const { tally, loop, tickAfter } = setup()
    for (let call = 0; call < 5; call += 1) await tally.sent('moveToActive', Promise.resolve())
    expect(loop().cycles).toBe(0)
    tickAfter(500)
    expect(loop()).toMatchObject({ cycles: 5, inFlight: 0, endedAgeMs: 0 })
  })

  it('passes on what a call gives and throws', async () => {
    const { tally } = setup()
    expect(await tally.sent('moveToActive', Promise.resolve('job'))).toBe('job')
    await expect(tally.sent('moveToFinished', Promise.reject(new Error('no lock')))).rejects.toThrow('no lock')
    await expect(tally.block(1000, () => Promise.reject(new Error('closed')))).rejects.toThrow('closed')
  })

  it('shows a call that hangs by its phase, a tick younger than it is, whatever else comes and goes', async () => {
    const { tally, loop, tickAfter, advance } = setup()
    const reply = deferred<void>()
    advance(100)
    const hanging = tally.sent('moveToFinished', reply.promise)
    expect(loop().inFlight).toBe(0)
    tickAfter(400)
    for (let tick = 0; tick < 10; tick += 1) {
      await tally.sent('moveToActive', Promise.resolve())
      void tally.sent('moveToDelayed', new Promise(() => undefined))
      tickAfter(500)
    }
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'moveToFinished', sinceAgeMs: 5000 })
    reply.resolve()
    await hanging
    tickAfter(500)
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'moveToDelayed', sinceAgeMs: 5000 })
  })

  it('shows the wait that blocks on purpose at once, with its limit, behind a call that is due before it', async () => {
    const { tally, loop, tickAfter } = setup()
    const marker = deferred<void>()
    const waiting = tally.block(5000, () => marker.promise)
    tickAfter(500)
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'waitForJob', limitMs: 5000, sinceAgeMs: 500, cycles: 1 })
    void tally.sent('moveToFinished', new Promise(() => undefined))
    tickAfter(500)
    expect(loop()).toMatchObject({ phase: 'moveToFinished', limitMs: 0, sinceAgeMs: 0 })
    marker.resolve()
    await waiting
    expect(loop()).toMatchObject({ phase: 'moveToFinished', endedAgeMs: 0 })
  })

  it('whose close lingers hangs in it', () => {
    const { tally, loop, tickAfter } = setup()
    tally.hang('close')
    tickAfter(500)
    tickAfter(3000)
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'close', sinceAgeMs: 3000 })
  })
})

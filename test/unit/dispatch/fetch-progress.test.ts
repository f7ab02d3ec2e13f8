import { describe, expect, it } from 'vitest'
import { FetchProgress } from '../../../src/dispatch/fetch-progress.js'
import { FETCH, testBoard } from '../../support/boards.js'
import { type Deferred, deferred } from '../../support/deferred.js'
import { settle } from '../../support/fake-time.js'

function setup() {
  const { board, time } = testBoard()
  const writer = board.loopWriter(FETCH)
  writer.state('polling')
  const progress = new FetchProgress(board, writer)
  const out = new Map<string, Deferred<void>>()
  return {
    time,
    progress,
    loop: () => board.readLoop(FETCH),
    /** Sends a call out that stays away until it is told to come back. */
    send(name: string, phase: Parameters<FetchProgress['watch']>[0], limitMs = 0): void {
      const call = deferred()
      out.set(name, call)
      progress.watch(phase, limitMs, () => call.promise).catch(() => undefined)
    },
    async back(name: string): Promise<void> {
      out.get(name)?.resolve()
      await settle()
    },
    async fails(name: string): Promise<void> {
      out.get(name)?.reject(new Error('lost'))
      await settle()
    },
  }
}

describe('the progress of the fetch loop', () => {
  it('is in flight while a call is out, and at rest from its end', async () => {
    const { time, send, back, loop } = setup()
    send('a', 'moveToActive')
    await time.advance(300)
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'moveToActive', sinceAgeMs: 300, limitMs: 0, cycles: 1 })
    await back('a')
    await time.advance(200)
    expect(loop()).toMatchObject({ inFlight: 0, endedAgeMs: 200, cycles: 1 })
  })

  it('A2 ends a call that throws, and passes its error on', async () => {
    const { progress, loop } = setup()
    await expect(progress.watch('moveToFinished', 0, () => Promise.reject(new Error('gone')))).rejects.toThrow('gone')
    expect(loop()).toMatchObject({ inFlight: 0, endedAgeMs: 0 })
  })

  it('passes the reply on', async () => {
    const { progress } = setup()
    expect(await progress.watch('moveToActive', 0, () => Promise.resolve('job'))).toBe('job')
  })

  it('shows of many calls the one that went out first, whatever order they come back in', async () => {
    const { time, send, back, loop } = setup()
    send('first', 'moveToFinished')
    await time.advance(100)
    send('second', 'moveToActive')
    send('third', 'moveToDelayed')
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'moveToFinished', sinceAgeMs: 100 })
    await back('second')
    expect(loop()).toMatchObject({ phase: 'moveToFinished', sinceAgeMs: 100 })
    await time.advance(50)
    await back('first')
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'moveToDelayed', sinceAgeMs: 50 })
    await back('third')
    expect(loop()).toMatchObject({ inFlight: 0, cycles: 3 })
  })

  it('shows a blocking call with its limit', async () => {
    const { time, send, loop } = setup()
    send('block', 'waitForJob', 5000)
    await time.advance(4000)
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'waitForJob', sinceAgeMs: 4000, limitMs: 5000 })
  })

  it('shows a hung call beside a blocking one that is due later', async () => {
    const { time, send, back, loop } = setup()
    send('block', 'waitForJob', 5000)
    await time.advance(1000)
    send('hung', 'moveToFinished')
    expect(loop()).toMatchObject({ phase: 'moveToFinished', sinceAgeMs: 0, limitMs: 0 })
    await back('hung')
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'waitForJob', sinceAgeMs: 1000, limitMs: 5000 })
  })

  it('shows a blocking call beside a younger one when the blocking one was due first', async () => {
    const { time, send, fails, loop } = setup()
    send('block', 'waitForJob', 5000)
    await time.advance(6000)
    send('late', 'moveToFinished')
    expect(loop()).toMatchObject({ phase: 'waitForJob', sinceAgeMs: 6000, limitMs: 5000 })
    await fails('block')
    expect(loop()).toMatchObject({ inFlight: 1, phase: 'moveToFinished', sinceAgeMs: 0 })
  })

  it('A6 rests while it is limited, and polls again with the next call', async () => {
    const { time, send, progress, loop } = setup()
    progress.limitedFor(800)
    await time.advance(300)
    expect(loop()).toMatchObject({ state: 'limited', limitedForMs: 500, inFlight: 0 })
    send('a', 'moveToActive')
    expect(loop().state).toBe('polling')
  })

  it('A6 rests from the drain on, whatever calls still go out for the jobs that run', async () => {
    const { send, back, progress, loop } = setup()
    progress.limitedFor(800)
    progress.drain()
    send('end', 'moveToFinished')
    expect(loop()).toMatchObject({ state: 'draining', inFlight: 1 })
    progress.limitedFor(800)
    await back('end')
    expect(loop()).toMatchObject({ state: 'draining', inFlight: 0 })
  })
})

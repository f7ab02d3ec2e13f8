import { describe, expect, it } from 'vitest'
import { ChannelVoice } from '../../../src/dispatch/channel-voice.js'
import type { SoloNews } from '../../../src/dispatch/solo-protocol.js'
import { FakeTime } from '../../support/fake-time.js'

const WINDOW_MS = 100
const JOB = { cell: 0, claim: 1 }
const alive = { unstuck: 'alive' } as const

function setup() {
  const time = new FakeTime()
  const sent: SoloNews[] = []
  const voice = new ChannelVoice((news) => sent.push(news), time.monotonicMs, WINDOW_MS)
  /** Says so much that nothing more may leave in this window. */
  const exhaust = () => {
    for (let heartbeat = 0; heartbeat < 1000; heartbeat += 1) voice.jobAlive(JOB)
    sent.length = 0
  }
  return { voice, sent, time, exhaust }
}

describe('the voice of a job in a process of its own', () => {
  it('tells a heartbeat and a step at once', () => {
    const { voice, sent } = setup()
    voice.jobAlive(JOB)
    voice.jobStep(JOB, 'clone', voice.stamp())
    voice.jobStep(JOB, undefined, 0)
    expect(sent).toEqual([alive, { unstuck: 'step', name: 'clone', ageMs: 0 }, { unstuck: 'step', name: undefined, ageMs: 0 }])
  })

  it('tells how long ago a step was entered, as for the outer one that is left over', () => {
    const { voice, sent, time } = setup()
    const entered = voice.stamp()
    time.freeze(1234)
    voice.jobStep(JOB, 'outer', entered)
    expect(sent).toEqual([{ unstuck: 'step', name: 'outer', ageMs: 1234 }])
  })

  it('sends a few in each window, however much is said, and no more without time passing', () => {
    const { voice, sent } = setup()
    for (let heartbeat = 0; heartbeat < 1_000_000; heartbeat += 1) voice.jobAlive(JOB)
    expect(sent.length).toBeGreaterThan(0)
    expect(sent.length).toBeLessThanOrEqual(20)
  })

  it('is heard again in the next window even if its event loop never turns', () => {
    const { voice, sent, time, exhaust } = setup()
    exhaust()
    time.freeze(WINDOW_MS)
    voice.jobAlive(JOB)
    expect(sent).toEqual([alive])
  })

  it('keeps the newest of what it held back, and tells it once at the next flush', () => {
    const { voice, sent, time, exhaust } = setup()
    exhaust()
    voice.jobStep(JOB, 'first', voice.stamp())
    voice.jobStep(JOB, 'second', voice.stamp())
    voice.jobAlive(JOB)
    expect(sent).toEqual([])
    time.freeze(WINDOW_MS)
    voice.flush()
    voice.flush()
    expect(sent).toEqual([{ unstuck: 'step', name: 'second', ageMs: WINDOW_MS }])
  })

  it('says nothing by itself', () => {
    const { voice, sent, time } = setup()
    time.freeze(WINDOW_MS * 10)
    voice.flush()
    expect(sent).toEqual([])
  })

  it('knows the first reason to stop that it was given, and none before', () => {
    const { voice } = setup()
    expect(voice.abortReason(JOB)).toBeUndefined()
    voice.abort('cancelled')
    voice.abort('lost its lock')
    expect(voice.abortReason(JOB)).toBe('cancelled')
  })
})

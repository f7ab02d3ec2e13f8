import { describe, expect, it } from 'vitest'
import type { Sight } from '../../../src/heartbeat/observer.js'
import { CycleEnds } from '../../../src/watchdog/cycle-ends.js'
import { DEADMAN_INTERVAL_MS, Deadman } from '../../../src/watchdog/deadman.js'
import { type Deferred, deferred } from '../../support/deferred.js'
import { settle } from '../../support/fake-time.js'

function setup() {
  const pings: Deferred<void>[] = []
  const said: unknown[] = []
  let now = 0
  const deadman = new Deadman({
    ping: () => {
      const ping = deferred()
      pings.push(ping)
      return ping.promise
    },
    monotonicMs: () => now,
    onFailure: (error) => said.push(error),
  })
  /** A cycle judged at this time; the monitor answers as told. */
  const judgedAt = async (at: number, answer?: 'taken' | Error) => {
    now = at
    const before = pings.length
    deadman.judged()
    const ping = pings.length > before ? pings.at(-1) : undefined
    if (answer === 'taken') ping?.resolve()
    if (answer instanceof Error) ping?.reject(answer)
    await settle()
  }
  return { pings, said, judgedAt }
}

describe("the dead man's switch", () => {
  it('is pinged by the first cycle that judged, and then once an interval', async () => {
    const { pings, judgedAt } = setup()
    await judgedAt(0, 'taken')
    expect(pings).toHaveLength(1)
    await judgedAt(DEADMAN_INTERVAL_MS - 1, 'taken')
    expect(pings).toHaveLength(1)
    await judgedAt(DEADMAN_INTERVAL_MS, 'taken')
    expect(pings).toHaveLength(2)
  })

  it('gets no second ping while one is out', async () => {
    const { pings, judgedAt } = setup()
    await judgedAt(0)
    await judgedAt(10 * DEADMAN_INTERVAL_MS)
    expect(pings).toHaveLength(1)
  })

  it('that does not answer is said once an outage, and is tried again each interval', async () => {
    const { pings, said, judgedAt } = setup()
    const refused = new Error('refused')
    for (const time of [0, 1, 2]) await judgedAt(time * DEADMAN_INTERVAL_MS, refused)
    expect(pings).toHaveLength(3)
    expect(said).toEqual([refused])
    await judgedAt(3 * DEADMAN_INTERVAL_MS, 'taken')
    const later = new Error('refused again')
    await judgedAt(4 * DEADMAN_INTERVAL_MS, later)
    expect(said).toEqual([refused, later])
  })
})

const sight = (judges: Sight['judges'], reason?: Sight['reason']): Sight => ({ judges, reason, clearForMs: 0, blindForMs: 0 })
const view = (seen: Sight, lastCycleAt: number | undefined) => ({ sight: seen, outage: undefined, lastCycleAt })

describe('the end of a watch cycle', () => {
  it('that came to its end with full sight has judged', () => {
    expect(new CycleEnds().look(view(sight('all'), 1000))).toEqual({ judged: true, turned: true })
  })

  it('that threw has neither judged nor turned, also after one that did', () => {
    const ends = new CycleEnds()
    expect(ends.look(view(sight('all'), undefined))).toEqual({ judged: false, turned: false })
    ends.look(view(sight('all'), 1000))
    expect(ends.look(view(sight('all'), 1000))).toEqual({ judged: false, turned: false })
  })

  it('B5 with less than full sight has turned and not judged', () => {
    const ends = new CycleEnds()
    expect(ends.look(view(sight('stated', 'starting'), 1000))).toEqual({ judged: false, turned: true })
    expect(ends.look(view(sight('none', 'clock_jump'), 2000))).toEqual({ judged: false, turned: true })
  })

  it('to which Redis did not answer has turned and not judged', () => {
    const ends = new CycleEnds()
    ends.look(view(sight('all'), 1000))
    expect(ends.look(view(sight('none', 'unreachable'), 1000))).toEqual({ judged: false, turned: true })
  })
})

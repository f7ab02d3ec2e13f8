import { describe, expect, it } from 'vitest'
import { type Beat, lateIn } from '../../../src/heartbeat/beat.js'
import { writeOrder } from '../../../src/heartbeat/orders.js'
import { sampleBeat } from '../../../src/heartbeat/sampler.js'
import { type BeatSink, GOODBYE_MS, Sentinel } from '../../../src/heartbeat/sentinel.js'
import type { FromSentinel, SentinelIdentity } from '../../../src/heartbeat/sentinel-protocol.js'
import { FETCH, identity, QUEUE, testBoard } from '../../support/boards.js'
import { type Deferred, deferred } from '../../support/deferred.js'

const CALL_TIMEOUT_MS = 1500
const { intervalMs, loopBlockedMs, threadBlockedMs } = identity.heartbeat
const LOOK_MS = 50

interface Sent {
  readonly at: number
  readonly seq: number
  readonly late: readonly string[]
  readonly hint: boolean
}

type Store = 'up' | 'away' | 'hung' | 'newer'

function setup(who: SentinelIdentity = identity) {
  const { board, time } = testBoard()
  board.loopWriter(FETCH).state('paused')
  const sent: Sent[] = []
  const posted: FromSentinel[] = []
  const store = {
    is: 'up' as Store,
    taken: false,
    reconnects: 0,
    goodbyes: 0,
    hung: [] as Deferred<void>[],
    orders: [] as string[],
  }
  const call = async (): Promise<void> => {
    if (store.is === 'away') throw new Error('connect ECONNREFUSED')
    if (store.is !== 'hung') return
    const one = deferred()
    store.hung.push(one)
    await one.promise
  }
  const sink: BeatSink = {
    async register() {
      await call()
      return store.taken ? { taken: true, host: 'other', pid: '7' } : { taken: false }
    },
    async beat(beat: Beat, late: boolean, hint: boolean) {
      const causes = lateIn(beat).map(({ cause }) => cause)
      expect(late).toBe(causes.length > 0)
      sent.push({ at: time.nowMs, seq: beat.seq, late: causes, hint })
      await call()
      return { accepted: store.is !== 'newer', orders: store.orders.splice(0) }
    },
    async goodbye() {
      store.goodbyes += 1
      await call()
    },
  }
  let mainTurns = true
  const sentinel = new Sentinel(
    {
      sample: (seq, now, pauses) => {
        if (mainTurns) board.mainTurned()
        return sampleBeat(board, who, { seq, uptimeMs: now, wallNow: 0, monotonicNow: now, pauses })
      },
      sink,
      reconnect: () => {
        store.reconnects += 1
      },
      post: (message) => posted.push(message),
      monotonicMs: time.monotonicMs,
      timer: time.timer,
    },
    { incarnation: identity.incarnation, intervalMs, callTimeoutMs: CALL_TIMEOUT_MS },
  )
  const main = {
    hangs: () => {
      mainTurns = false
    },
    turns: () => {
      mainTurns = true
    },
  }
  const types = () => posted.map(({ type }) => type)
  const start = async () => {
    await sentinel.start()
    await time.advance(0)
  }
  const stop = async () => {
    const stopped = sentinel.stop()
    await time.advance(GOODBYE_MS)
    await stopped
  }
  return { board, time, sentinel, sent, posted, store, main, types, start, stop }
}

const terminating: SentinelIdentity = {
  ...identity,
  queues: identity.queues.map((queue) => ({ ...queue, onStuck: 'terminate' })),
}

/** A job on thread 1 that shows no sign of life from now on; the thread does not turn. */
function hangJob(board: ReturnType<typeof setup>['board'], id = 'j1') {
  const cell = board.claimThread(QUEUE, 11)
  board.threadTook(cell)
  const ref = board.claimJob(QUEUE, id, 2, 9)
  if (!ref) throw new Error('no free cell')
  board.jobOnThread(ref, cell)
  return { cell, ref }
}

describe('sentinel: the name', () => {
  it('registers, says ready, and beats at once and then every interval', async () => {
    const { time, start, sent, types } = setup()
    await start()
    await time.advance(3 * intervalMs)
    expect(types()).toEqual(['ready'])
    expect(sent.map(({ at, seq }) => [at - 1000, seq])).toEqual([
      [0, 1],
      [intervalMs, 2],
      [2 * intervalMs, 3],
      [3 * intervalMs, 4],
    ])
  })

  it('says who holds the name, and never beats', async () => {
    const { time, start, sent, posted, store } = setup()
    store.taken = true
    await start()
    await time.advance(10 * intervalMs)
    expect(posted).toEqual([{ type: 'taken', host: 'other', pid: '7' }])
    expect(sent).toEqual([])
  })

  it('registers as soon as the store comes', async () => {
    const { time, start, types, store } = setup()
    store.is = 'away'
    await start()
    await time.advance(20_000)
    expect(types()).toEqual(['error'])
    store.is = 'up'
    await time.advance(200)
    expect(types()).toEqual(['error', 'ready'])
  })

  it('A12 says that it was replaced once a newer incarnation has the name, and is silent from then on, without a goodbye', async () => {
    const { time, start, sentinel, sent, types, store, main, stop } = setup()
    await start()
    store.is = 'newer'
    await time.advance(intervalMs)
    const count = sent.length
    main.hangs()
    await time.advance(20 * intervalMs)
    sentinel.kick()
    await stop()
    expect(types()).toEqual(['ready', 'replaced'])
    expect(sent).toHaveLength(count)
    expect(store.goodbyes).toBe(0)
  })
})

describe('sentinel: when something falls late', () => {
  it('beats with a hint within a millisecond of the threshold, on with each interval, and with a hint again on recovery', async () => {
    const { time, start, sent, main } = setup()
    await start()
    await time.advance(250)
    main.hangs()
    const turned = 1000
    await time.advance(loopBlockedMs + 2 * intervalMs)
    const lateBeats = sent.filter(({ late }) => late.length > 0)
    expect(lateBeats[0]).toMatchObject({ late: ['loop_blocked'], hint: true })
    expect((lateBeats[0]?.at ?? 0) - turned - loopBlockedMs).toBeLessThanOrEqual(1 + 250)
    expect(lateBeats.slice(1).every(({ hint }) => !hint)).toBe(true)
    main.turns()
    const recovered = time.nowMs
    await time.advance(LOOK_MS)
    expect(sent.at(-1)).toMatchObject({ late: [], hint: true })
    expect((sent.at(-1)?.at ?? 0) - recovered).toBeLessThanOrEqual(LOOK_MS)
  })

  it('the moment of lateness is met by a timer of its own, not by the next beat', async () => {
    const { board, time, start, sent } = setup()
    await start()
    await time.advance(300)
    hangJob(board)
    const began = time.nowMs
    await time.advance(threadBlockedMs + 1)
    expect(sent.at(-1)).toEqual({ at: began + threadBlockedMs + 1, seq: sent.length, late: ['thread_blocked'], hint: true })
  })

  it('a second subject that falls late is told at once too', async () => {
    const { board, time, start, sent, main } = setup()
    await start()
    await time.advance(intervalMs)
    hangJob(board)
    main.hangs()
    await time.advance(threadBlockedMs + LOOK_MS)
    expect(sent.filter(({ hint }) => hint).map(({ late }) => late)).toEqual([
      ['loop_blocked'],
      ['loop_blocked', 'thread_blocked'],
    ])
  })
})

describe('sentinel: while the store misbehaves', () => {
  it('goes on looking while a beat is out, sends one at a time, and then what is true by then', async () => {
    const { time, start, sent, store, main } = setup()
    await start()
    await time.advance(intervalMs - 100)
    store.is = 'hung'
    main.hangs()
    await time.advance(200)
    const out = sent.length
    main.turns()
    await time.advance(CALL_TIMEOUT_MS - 200)
    expect(sent).toHaveLength(out)
    store.is = 'up'
    store.hung[0]?.resolve()
    await time.advance(0)
    expect(sent).toHaveLength(out + 1)
    expect(sent.at(-1)).toMatchObject({ at: time.nowMs, late: [] })
  })

  it('A7 gives up a call that hangs, replaces the connection, and beats again', async () => {
    const { time, start, sent, store, posted } = setup()
    await start()
    store.is = 'hung'
    await time.advance(intervalMs + CALL_TIMEOUT_MS - 1)
    expect([sent.length, store.reconnects]).toEqual([2, 0])
    await time.advance(1)
    expect([sent.length, store.reconnects]).toEqual([3, 1])
    expect(posted.at(-1)).toEqual({ type: 'error', message: `the store did not answer in ${CALL_TIMEOUT_MS} ms` })
  })

  it('drops a beat that cannot be sent, and the next one tells the truth with the hint that nobody heard', async () => {
    const { time, start, sent, store, main } = setup()
    await start()
    store.is = 'away'
    main.hangs()
    await time.advance(loopBlockedMs + 200)
    expect(sent.at(-1)).toMatchObject({ late: ['loop_blocked'], hint: true })
    store.is = 'up'
    await time.advance(2 * intervalMs)
    expect(sent.filter(({ hint }) => hint).at(-1)).toMatchObject({ late: ['loop_blocked'] })
    expect(sent.at(-1)?.hint).toBe(false)
  })

  it('does not storm the store that refuses while something is late', async () => {
    const { time, start, sent, store, main } = setup()
    await start()
    store.is = 'away'
    main.hangs()
    await time.advance(loopBlockedMs)
    const before = sent.length
    await time.advance(10_000)
    expect(sent.length - before).toBeLessThanOrEqual(101)
  })

  it('tells the same trouble once a minute', async () => {
    const { time, start, store, types } = setup()
    await start()
    store.is = 'away'
    await time.advance(60_000)
    expect(types()).toEqual(['ready', 'error'])
    await time.advance(2 * intervalMs)
    expect(types()).toEqual(['ready', 'error', 'error'])
  })

  it('beats at once when the connection has come back', async () => {
    const { time, start, sentinel, sent, store } = setup()
    await start()
    store.is = 'away'
    await time.advance(intervalMs + 10)
    store.is = 'up'
    sentinel.kick()
    await time.advance(0)
    expect(sent.at(-1)?.at).toBe(time.nowMs)
  })

  it('a look that fails is told, and the next one is tried', async () => {
    const { board, time, start, types, sent } = setup()
    await start()
    const readJobs = board.readJobs.bind(board)
    board.readJobs = () => {
      throw new Error('torn')
    }
    await time.advance(3 * intervalMs)
    expect([types(), sent.length]).toEqual([['ready', 'error'], 1])
    board.readJobs = readJobs
    await time.advance(intervalMs)
    expect(sent.length).toBe(2)
  })
})

describe('sentinel: when the whole process stood still', () => {
  it('A13 accuses nobody on waking, and beats at once', async () => {
    const { board, time, start, sent, main } = setup()
    await start()
    hangJob(board)
    main.hangs()
    await time.advance(2500)
    time.freeze(10 * 60_000)
    await time.advance(0)
    expect(sent.at(-1)).toMatchObject({ at: time.nowMs, late: [] })
    await time.advance(loopBlockedMs)
    expect(sent.at(-1)).toMatchObject({ late: ['loop_blocked'] })
  })
})

describe('sentinel: ending stuck jobs', () => {
  const orders = (posted: readonly FromSentinel[]) => posted.filter(({ type }) => type === 'terminate')

  it('D10 orders the end once the store has taken two beats that say so, an interval apart, and only once', async () => {
    const { board, time, start, posted } = setup(terminating)
    await start()
    hangJob(board)
    await time.advance(threadBlockedMs + 1 + intervalMs - 1)
    expect(orders(posted)).toEqual([])
    await time.advance(1)
    expect(orders(posted)).toEqual([
      {
        type: 'terminate',
        queue: 'mail',
        thread: 1,
        generation: 1,
        jobId: 'j1',
        attempt: 2,
        fence: 9,
        cause: 'thread_blocked',
        ageMs: threadBlockedMs + 1 + intervalMs,
      },
    ])
    await time.advance(600_000)
    expect(orders(posted)).toHaveLength(1)
  })

  it('D10 with report it orders nothing', async () => {
    const { board, time, start, posted } = setup()
    await start()
    hangJob(board)
    await time.advance(600_000)
    expect(orders(posted)).toEqual([])
  })

  it('orders the end of a silent job whose thread still turns', async () => {
    const { board, time, start, posted } = setup(terminating)
    await start()
    const { cell } = hangJob(board)
    for (let second = 0; second < 302; second += 1) {
      board.threadTurned(cell)
      await time.advance(1000)
    }
    expect(orders(posted)).toMatchObject([{ jobId: 'j1', cause: 'job_silent', thread: 1, generation: 1 }])
  })

  it('a silent job that no thread has begun is nobody’s to end', async () => {
    const { board, time, start, posted } = setup(terminating)
    await start()
    board.claimJob(QUEUE, 'waiting', 1, 1)
    await time.advance(600_000)
    expect(orders(posted)).toEqual([])
  })

  it('B5 while the store is away or hung nobody is ended, and afterwards the two beats count anew', async () => {
    const { board, time, start, posted, store } = setup(terminating)
    await start()
    hangJob(board)
    store.is = 'away'
    await time.advance(60_000)
    store.is = 'hung'
    await time.advance(60_000)
    expect(orders(posted)).toEqual([])
    store.is = 'up'
    for (const call of store.hung) call.resolve()
    await time.advance(intervalMs - LOOK_MS)
    const first = orders(posted).length
    await time.advance(CALL_TIMEOUT_MS + intervalMs)
    expect([first, orders(posted).length]).toEqual([0, 1])
  })

  it('one that moved in between starts from the beginning', async () => {
    const { board, time, start, posted } = setup(terminating)
    await start()
    const { cell } = hangJob(board)
    await time.advance(threadBlockedMs + 1 + intervalMs - 100)
    board.threadTurned(cell)
    await time.advance(threadBlockedMs + intervalMs)
    expect(orders(posted)).toEqual([])
    await time.advance(LOOK_MS)
    expect(orders(posted)).toHaveLength(1)
  })

  it('the next attempt of the same job on the successor thread is another case', async () => {
    const { board, time, start, posted } = setup(terminating)
    await start()
    const { ref } = hangJob(board)
    await time.advance(threadBlockedMs + 2 * intervalMs)
    board.freeJob(ref)
    board.freeThread(11)
    await time.advance(intervalMs)
    hangJob(board)
    await time.advance(threadBlockedMs + 2 * intervalMs)
    expect(orders(posted)).toMatchObject([{ generation: 1 }, { generation: 2 }])
  })

  it('of several jobs on a blocked thread only the suspect is charged', async () => {
    const { board, time, start, posted } = setup(terminating)
    await start()
    const { cell } = hangJob(board, 'innocent')
    await time.advance(10)
    const ref = board.claimJob(QUEUE, 'culprit', 1, 1)
    if (ref) board.jobOnThread(ref, cell)
    await time.advance(600_000)
    expect(orders(posted)).toMatchObject([{ jobId: 'culprit' }])
  })
})

describe('sentinel: orders from outside', () => {
  const { incarnation } = identity
  const cancel = { kind: 'cancel', queue: 'mail', jobId: 'j1', fence: 9 } as const
  const passed = (posted: readonly FromSentinel[]) => posted.flatMap((one) => (one.type === 'order' ? [one.order] : []))

  it('passes on, in order and once, what its beat brings back', async () => {
    const { time, start, posted, store } = setup()
    await start()
    store.orders.push(writeOrder(cancel, incarnation), writeOrder({ kind: 'drain' }, incarnation))
    await time.advance(3 * intervalMs)
    expect(passed(posted)).toEqual([cancel, { kind: 'drain' }])
  })

  it('drops what is meant for another incarnation, and says so', async () => {
    const { time, start, posted, store } = setup()
    await start()
    store.orders.push(writeOrder({ kind: 'drain' }, 'another'))
    await time.advance(intervalMs)
    expect(passed(posted)).toEqual([])
    expect(posted.at(-1)).toEqual({ type: 'error', message: 'an order for another incarnation was dropped' })
  })

  it.each([
    ['no JSON', '{'],
    ['no object', '"drain"'],
    ['null', 'null'],
    ['for nobody', '{"kind":"drain"}'],
    ['of an unknown kind', `{"kind":"format","incarnation":"${incarnation}"}`],
    ['a cancellation without a fence', `{"kind":"cancel","queue":"mail","jobId":"j1","incarnation":"${incarnation}"}`],
    [
      'a cancellation with half a fence',
      `{"kind":"cancel","queue":"q","jobId":"j","fence":1.5,"incarnation":"${incarnation}"}`,
    ],
  ])('E4 an order that is %s is dropped and said, without its text, and the next one is passed on', async (_what, text) => {
    const { time, start, posted, store } = setup()
    await start()
    store.orders.push(text, writeOrder({ kind: 'drain' }, incarnation))
    await time.advance(intervalMs)
    expect(passed(posted)).toEqual([{ kind: 'drain' }])
    const [said] = posted.flatMap((one) => (one.type === 'error' ? [one.message] : []))
    expect(said).toMatch(/^an order .* was dropped$/)
    expect(said).not.toContain(text)
  })

  it('passes on what an answer brings that came too late to count', async () => {
    const { time, start, posted, store } = setup()
    await start()
    store.is = 'hung'
    await time.advance(intervalMs + CALL_TIMEOUT_MS)
    store.orders.push(writeOrder({ kind: 'drain' }, incarnation))
    store.is = 'up'
    store.hung[0]?.resolve()
    await time.advance(0)
    expect(passed(posted)).toEqual([{ kind: 'drain' }])
  })
})

describe('sentinel: the end', () => {
  it('says goodbye and never looks again', async () => {
    const { time, start, sentinel, sent, store, stop } = setup()
    await start()
    await time.advance(10)
    await stop()
    const count = sent.length
    sentinel.kick()
    await time.advance(10 * intervalMs)
    expect([store.goodbyes, sentinel.saidGoodbye, sent.length]).toEqual([1, true, count])
  })

  it('the goodbye waits for the beat that is out, which would take it back', async () => {
    const { time, start, sentinel, store } = setup()
    await start()
    store.is = 'hung'
    await time.advance(intervalMs)
    const stopped = sentinel.stop()
    await time.advance(100)
    expect(store.goodbyes).toBe(0)
    store.is = 'up'
    store.hung[0]?.resolve()
    await stopped
    expect([store.goodbyes, sentinel.saidGoodbye]).toEqual([1, true])
  })

  it('A14 ends in bounded time when the store is away, having tried again and again', async () => {
    const { time, start, sentinel, store } = setup()
    await start()
    await time.advance(10)
    store.is = 'away'
    const stopped = sentinel.stop()
    await time.advance(GOODBYE_MS)
    await stopped
    expect(store.goodbyes).toBeGreaterThan(5)
    expect(sentinel.saidGoodbye).toBe(false)
    const tried = store.goodbyes
    await time.advance(10_000)
    expect(store.goodbyes).toBe(tried)
  })

  it('A14 stopped while it registers, it takes the name back', async () => {
    const { time, start, sentinel, store, types } = setup()
    store.is = 'hung'
    await start()
    await time.advance(10)
    const stopped = sentinel.stop()
    store.is = 'up'
    store.hung[0]?.resolve()
    await time.advance(10)
    await stopped
    expect([store.goodbyes, sentinel.saidGoodbye, types()]).toEqual([1, true, []])
  })

  it('A14 stopped before it was started, it has nothing to say', async () => {
    const { sentinel, store, stop } = setup()
    await stop()
    expect([store.goodbyes, sentinel.saidGoodbye, sentinel.state]).toEqual([0, false, 'stopped'])
  })
})

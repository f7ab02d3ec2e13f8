import { connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { afterEach, describe, expect, it } from 'vitest'
import type { HistoryView } from '../../src/http/history.js'
import type { Config } from '../../src/platform/config.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { startWatchdog } from '../../src/processes/watchdog.js'
import type { Incident, Transition } from '../../src/watchdog/incident.js'
import { redisIncidents } from '../../src/watchdog/redis-incidents.js'
import { beatOf, jobOf, threadOf } from '../support/beats.js'
import { startFakeSupervisor } from '../support/fake-supervisor.js'
import { startTestRedis } from '../support/redis.js'
import { listen, type SseEvent, type SseListener } from '../support/sse.js'
import { testConfig } from '../support/watchdog-config.js'

const keys = fleetKeys('{unstuck}')

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function setup(http: Partial<Config['http']> = {}) {
  const server = await startTestRedis()
  const redis = new Redis(server.url)
  redis.on('error', () => undefined)
  cleanups.push(
    () => server.stop(),
    () => redis.disconnect(),
  )
  const log = { info: () => undefined, warn: () => undefined }
  const watch = async (id: string) => {
    const watchdog = await startWatchdog(testConfig({ redisUrl: server.url, http }), { log, id })
    cleanups.push(() => watchdog.stop())
    return watchdog
  }
  const watchdog = await watch('w1')
  const events = async (from = watchdog.address, headers: Record<string, string> = {}, query = '') => {
    const listener = await listen(`${from}/api/v1/events${query}`, headers)
    cleanups.push(() => listener.close())
    return listener
  }
  const incidents = redisIncidents(redis, keys)
  /** Puts transitions into the stream as a watchdog does with those of its own outage. */
  const record = (count: number, phase = '') =>
    incidents.record(
      Array.from({ length: count }, (_, i): Transition => ({ seq: 0, at: i, event: 'stuck', incident: incidentOf(phase) })),
    )
  return { server, redis, watch, watchdog, events, record, incidents }
}

function incidentOf(phase: string): Incident {
  return {
    ...{ subjectKind: 'redis', subject: 'redis', cause: 'redis_unreachable', ageMs: 1, thresholdMs: 1, phase },
    ...{ seq: 1, openedAtRedisMs: 1, incidentId: 'i', since: '', watchdogId: 'w', count: 1, lastAtRedisMs: 1 },
    ...{ held: false, heldBack: 0 },
  }
}

const transitionsIn = (events: readonly SseEvent[]) => events.filter(({ event }) => ['stuck', 'resumed'].includes(event))
const seqsOf = (events: readonly SseEvent[]): number[] =>
  transitionsIn(events).map(({ data }) => Number(/^\{"seq":(\d+)/.exec(data)?.[1]))
const hasSeq = (seq: number) => (events: readonly SseEvent[]) => seqsOf(events).includes(seq)
/** The place of the stream that it begins from is named. */
const placed = async (listener: SseListener) => {
  await listener.until(() => listener.lastId !== '')
  return listener
}
/** Each number once and in order; a busy machine may add some of its own (watchdog_blind). */
const expectAll = (seqs: readonly number[], atLeast: number) => {
  expect(seqs).toEqual(range(1, seqs.length))
  expect(seqs.length).toBeGreaterThanOrEqual(atLeast)
}
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

async function until<T>(ask: () => Promise<T>, holds: (answer: T) => boolean): Promise<T> {
  const deadline = Date.now() + 20_000
  for (;;) {
    const answer = await ask()
    if (holds(answer)) return answer
    if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(answer)}`)
    await setTimeout(50)
  }
}

describe('the events of a watchdog', () => {
  it('bring what gets stuck and what resumes as it happens, in order, with its place in the stream', async () => {
    const { redis, events } = await setup()
    const supervisor = await startFakeSupervisor(redis, { timeoutMs: 1000 })
    cleanups.push(() => supervisor.stopBeating())
    const listener = await events()
    expect(listener.status).toBe(200)
    expect(listener.headers['content-type']).toBe('text/event-stream; charset=utf-8')
    await supervisor.become(beatOf({ threads: [threadOf({ tickAgeMs: 12_000 })], jobs: [jobOf({ id: '7' })] }))
    await listener.until((heard) => heard.some(({ event }) => event === 'stuck'))
    await supervisor.become(beatOf())
    await listener.until((heard) => heard.some(({ event }) => event === 'resumed'))
    const [stuck, resumed] = transitionsIn(listener.events)
    expect(JSON.parse(stuck?.data ?? '')).toMatchObject({ event: 'stuck', seq: 1, incident: { cause: 'thread_blocked' } })
    expect(JSON.parse(resumed?.data ?? '')).toMatchObject({ event: 'resumed', seq: 2, outcome: 'recovered' })
    const places = (await redis.xrange(keys.transitions, '-', '+')).map(([id]) => id)
    expect([stuck?.id, resumed?.id]).toEqual(places)
  })

  it('begin with now, and say whether Redis is there', async () => {
    const { record, events } = await setup()
    await record(3)
    const listener = await placed(await events())
    await record(1)
    await listener.until(hasSeq(4))
    expect(seqsOf(listener.events)).toEqual([4])
    await listener.until((heard) => heard.some(({ event, data }) => event === 'store' && data === '{"reachable":true}'))
  })

  it('say with `fleet` that there is something new, by a stamp that ages do not change', async () => {
    const { redis, events } = await setup()
    const supervisor = await startFakeSupervisor(redis, { timeoutMs: 1000 })
    cleanups.push(() => supervisor.stopBeating())
    const listener = await events()
    const stamps = (heard: readonly SseEvent[]) => heard.filter(({ event }) => event === 'fleet').map(({ data }) => data)
    await listener.until((heard) => stamps(heard).length >= 3)
    await supervisor.become(beatOf({ jobs: [jobOf({ id: '7' })] }))
    const before = stamps(listener.events).length
    await listener.until((heard) => stamps(heard).length >= before + 2)
    const [, second, third, ...later] = stamps(listener.events)
    expect(third).toBe(second)
    expect(later.at(-1)).not.toBe(third)
  })

  it('resume without loss or repetition while transitions keep coming, over many reconnects and two watchdogs', async () => {
    const { watch, watchdog, record, events } = await setup()
    const second = await watch('w2')
    const all = 1500
    let isOver = false
    const writing = (async () => {
      for (let written = 0; written < all; written += 5) {
        await record(5)
        await setTimeout(2)
      }
      isOver = true
    })()
    const first = await events(watchdog.address, {}, '?since=0')
    const heard: number[] = []
    let listener = first
    let turn = 1
    for (; ; turn++) {
      await listener.until((soFar) => seqsOf(soFar).length > 0 || isOver)
      if (isOver) await listener.until((soFar) => (seqsOf(soFar).at(-1) ?? 0) >= all)
      // What it has heard and the place that it comes back with are read in one go, as in a browser.
      heard.push(...seqsOf(listener.events))
      const { lastId } = listener
      listener.close()
      if ((heard.at(-1) ?? 0) >= all) break
      listener = await events(turn % 2 === 0 ? watchdog.address : second.address, { 'last-event-id': lastId })
    }
    await writing
    expectAll(heard, all)
    expect(turn).toBeGreaterThan(5)
  })

  it('tell each of many clients the same once, from either watchdog', async () => {
    const { watch, watchdog, record, events } = await setup()
    const second = await watch('w2')
    const listeners = await Promise.all(
      range(1, 200).map(async (i) => placed(await events(i % 2 === 0 ? watchdog.address : second.address))),
    )
    for (let round = 0; round < 10; round++) await record(2)
    await Promise.all(listeners.map((listener) => listener.until(hasSeq(20))))
    for (const { events: heard } of listeners) expectAll(seqsOf(heard), 20)
  })

  it('tell a client that asks for what is trimmed, or for a place of another stream, to start anew', async () => {
    const { redis, record, events, watchdog } = await setup()
    await record(20)
    const [old] = await redis.xrange(keys.transitions, '-', '+', 'COUNT', 1)
    await redis.xtrim(keys.transitions, 'MAXLEN', 5)
    const [oldest] = await redis.xrange(keys.transitions, '-', '+', 'COUNT', 1)
    const isReset = (heard: readonly SseEvent[]) => heard.find(({ event }) => event === 'reset')
    const lost = [
      await events(watchdog.address, { 'last-event-id': old?.[0] ?? '' }),
      await events(watchdog.address, {}, '?since=0-0'),
      await events(watchdog.address, { 'last-event-id': '99999999999999-0' }),
      await events(watchdog.address, { 'last-event-id': 'no place at all' }),
    ]
    for (const listener of lost) await listener.until(isReset)
    const kept = await events(watchdog.address, { 'last-event-id': oldest?.[0] ?? '' })
    await record(1)
    for (const listener of lost) {
      await listener.until(hasSeq(21))
      expect(seqsOf(listener.events)).toEqual([21])
    }
    await kept.until(hasSeq(21))
    expect(seqsOf(kept.events)).toEqual(range(17, 21))
    expect(isReset(kept.events)).toBeUndefined()
    expect((await fetch(`${watchdog.address}/api/v1/events?since=yesterday`)).status).toBe(400)
  })

  it('drop a client that does not read, at 1 MiB, and keep the others', async () => {
    const { watchdog, record, events } = await setup()
    const { hostname, port } = new URL(watchdog.address)
    const slow = connect(Number(port), hostname)
    cleanups.push(() => slow.destroy())
    slow.write(`GET /api/v1/events HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`)
    await new Promise((resolve) => slow.once('readable', resolve))
    const fast = await placed(await events())
    const dropped = new Promise<number>((resolve) => {
      slow.once('close', () => resolve(slow.bytesRead))
      slow.once('error', () => undefined)
    })
    const batches = 30
    for (let batch = 0; batch < batches; batch++) {
      await record(10, 'x'.repeat(100_000))
      await fast.until(hasSeq(10 * (batch + 1)))
    }
    slow.resume()
    expect(await dropped).toBeLessThan(15_000_000)
    expectAll(seqsOf(fast.events), 10 * batches)
  })

  it('hand a long past to a client at the pace at which it reads', async () => {
    const { watchdog, record, events } = await setup()
    for (let batch = 0; batch < 20; batch++) await record(20, 'x'.repeat(50_000))
    const listener = await events(watchdog.address, {}, '?since=0')
    await listener.until(hasSeq(400))
    expectAll(seqsOf(listener.events), 400)
  })

  it('say that Redis is away and back, and bring what happened meanwhile', async () => {
    const { server, watchdog, record, events } = await setup()
    const listener = await placed(await events())
    await record(1)
    await listener.until(hasSeq(1))
    /** From the first time that it was there. */
    const stores = (heard: readonly SseEvent[]) => {
      const all = heard.filter(({ event }) => event === 'store').map(({ data }) => data)
      return all.slice(Math.max(0, all.indexOf('{"reachable":true}')))
    }
    await listener.until((heard) => stores(heard)[0] === '{"reachable":true}')
    server.pause()
    await listener.until((heard) => stores(heard).includes('{"reachable":false}'))
    const health = async () => (await fetch(`${watchdog.address}/api/v1/health`)).text()
    await until(health, (text) => text.includes('redis_unreachable'))
    const late = await events()
    expect(late.status).toBe(200)
    await late.until((heard) => stores(heard)[0] === '{"reachable":false}')
    await late.until((heard) => heard.some(({ event, data }) => event === 'fleet' && data === '{"version":null}'))
    server.resume()
    await listener.until((heard) => stores(heard).length === 3)
    // The outage of the watchdog itself is written down when it is over.
    await listener.until((heard) => heard.some(({ event }) => event === 'resumed'))
    const before = Math.max(...seqsOf(listener.events))
    await record(1)
    await listener.until(hasSeq(before + 1))
    expect(stores(listener.events)).toEqual(['true', 'false', 'true'].map((is) => `{"reachable":${is}}`))
    expect(seqsOf(listener.events)).toEqual(range(1, before + 1))
    await late.until(hasSeq(before + 1))
  })

  it('tell everybody to start anew when the store has lost its memory', async () => {
    const { redis, record, events } = await setup()
    await record(3)
    // A place in the future, as after a clock that was set back.
    await redis.xadd(keys.transitions, `${Date.now() + 3_600_000}-0`, 'transition', '{"seq":4,"event":"stuck"}')
    const listener = await placed(await events())
    await redis.flushall()
    await listener.until((heard) => heard.some(({ event }) => event === 'reset'))
    await record(1)
    await listener.until((heard) => transitionsIn(heard).length > 0)
  })

  it('refuse the 501st client, and take another when one has left', async () => {
    const { watchdog, events } = await setup()
    const listeners = await Promise.all(range(1, 500).map(() => events()))
    const refused = await fetch(`${watchdog.address}/api/v1/events`)
    expect(refused.status).toBe(503)
    expect(await refused.json()).toMatchObject({ error: { code: 'TOO_MANY_CLIENTS' } })
    listeners[0]?.close()
    const next = await until(
      () => events(),
      ({ status }) => status === 200,
    )
    await next.until((heard) => heard.length > 0)
  })

  it('end in good order when the watchdog stops, also with Redis away', async () => {
    const { server, watch, watchdog, events } = await setup()
    const second = await watch('w2')
    const listener = await placed(await events())
    await watchdog.stop()
    expect(await listener.ended).toBe(true)
    const other = await placed(await events(second.address))
    await server.kill()
    await other.until((heard) => heard.some(({ data }) => data === '{"reachable":false}'))
    await second.stop()
    expect(await other.ended).toBe(true)
  })
})

describe('the history of a watchdog', () => {
  it('fills every 5 s with what the fleet view shows, and has gaps where nothing could be read', async () => {
    const { server, redis, watchdog } = await setup()
    const supervisor = await startFakeSupervisor(redis, { timeoutMs: 1000 })
    cleanups.push(() => supervisor.stopBeating())
    const history = async () => (await (await fetch(`${watchdog.address}/api/v1/history`)).json()) as HistoryView
    await redis.lpush('bull:mail:wait', '1', '2')
    const two = await until(history, ({ times }) => times.length >= 2)
    expect(two.stepMs).toBe(5000)
    expect((two.times[1] ?? 0) - (two.times[0] ?? 0)).toBeGreaterThan(4000)
    expect(two.queues.find(({ queue }) => queue === 'mail')?.waiting.at(-1)).toBe(2)
    expect(two.loops[0]).toMatchObject({ supervisor: 'a', loop: 'fetch', queue: 'img' })
    await server.kill()
    const gap = await until(history, ({ queues }) => queues[0]?.waiting.at(-1) === null)
    expect(gap.loops[0]?.lagMs).toHaveLength(gap.times.length)
    expect((await fetch(`${watchdog.address}/api/v1/history?minutes=16`)).status).toBe(400)
  })
})

describe('bull-board', () => {
  it('shows the queues of the config and of the fleet, and writes nothing by looking', async () => {
    const { redis, watchdog } = await setup()
    await redis.sadd(keys.queues, 'other', 'odd:name', '')
    const page = await fetch(`${watchdog.address}/queues`)
    expect(page.status).toBe(200)
    expect(page.headers.get('content-type')).toMatch(/^text\/html/)
    const html = await page.text()
    expect(html).toContain('<base href="/queues/"')
    expect(html).not.toMatch(/https?:\/\//)
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'self'; style-src 'self' 'unsafe-inline'/)
    const script = /src="(static\/js\/main[^"]+)"/.exec(html)?.[1] ?? ''
    const loaded = await fetch(`${watchdog.address}/queues/${script}`)
    expect([loaded.status, loaded.headers.get('content-type')]).toEqual([200, expect.stringMatching(/javascript/)])
    const ask = async () => {
      const response = await fetch(`${watchdog.address}/queues/api/queues?page=1&jobsPerPage=10`)
      return (await response.json()) as { queues?: { name: string }[] }
    }
    const { queues = [] } = await until(ask, (answer) => answer.queues?.some(({ name }) => name === 'other') === true)
    expect(queues.map(({ name }) => name).sort()).toEqual(['img', 'mail', 'other'])
    expect(await redis.keys('bull:*')).toEqual([])
  })

  it('acts for whoever may, and only shows to whoever may only read', async () => {
    const { server, watchdog } = await setup({ token: 'all of it', readToken: 'only look' })
    const queue = new Queue('img', { connection: { url: server.url } })
    cleanups.push(() => queue.close())
    const job = await queue.add('x', {}, { delay: 3_600_000 })
    const as = (token: string) => ({ authorization: `Bearer ${token}` })
    const list = async (token: string) => {
      const response = await fetch(`${watchdog.address}/queues/api/queues?page=1&jobsPerPage=10`, { headers: as(token) })
      return (await response.json()) as { queues: { readOnlyMode: boolean }[] }
    }
    expect((await list('only look')).queues[0]?.readOnlyMode).toBe(true)
    expect((await list('all of it')).queues[0]?.readOnlyMode).toBe(false)
    expect((await fetch(`${watchdog.address}/queues/api/queues`)).status).toBe(401)
    const promote = (token: string) =>
      fetch(`${watchdog.address}/queues/api/queues/img/${job.id}/promote`, { method: 'PUT', headers: as(token) })
    expect((await promote('only look')).status).toBe(403)
    expect(await queue.getDelayedCount()).toBe(1)
    expect((await promote('all of it')).status).toBeLessThan(300)
    expect(await queue.getWaitingCount()).toBe(1)
  })

  it('answers in time while Redis is frozen or gone', async () => {
    const { server, watchdog } = await setup()
    const ask = async () => {
      const before = Date.now()
      const { status } = await fetch(`${watchdog.address}/queues/api/queues?page=1&jobsPerPage=10`)
      expect(Date.now() - before).toBeLessThan(2000)
      return status
    }
    await until(ask, (status) => status === 200)
    server.pause()
    expect(await ask()).toBe(503)
    server.resume()
    await until(ask, (status) => status === 200)
    await server.kill()
    await until(ask, (status) => status === 503)
    expect((await fetch(`${watchdog.address}/queues`)).status).toBe(200)
  })
})

import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { QueueFacts } from '../../src/heartbeat/queue-facts.js'
import { readBeats } from '../../src/heartbeat/redis-heartbeats.js'
import { redisQueueFacts } from '../../src/heartbeat/redis-queue-facts.js'
import { fleetKeys, queueKeys } from '../../src/platform/redis-keys.js'
import { redisWatchStore } from '../../src/watchdog/redis-watch-store.js'
import { startFakeSupervisor } from '../support/fake-supervisor.js'
import { startTestRedis, type TestRedis } from '../support/redis.js'

const HOUR_MS = 3_600_000
const keys = fleetKeys('{unstuck}')
let server: TestRedis
let redis: Redis
let queue: Queue

beforeAll(async () => {
  server = await startTestRedis()
  redis = new Redis(server.url)
  queue = new Queue('img', { connection: { url: server.url } })
})
beforeEach(() => redis.flushall())
afterAll(async () => {
  await queue.close()
  redis.disconnect()
  await server.stop()
})

async function measure(now = Date.now()): Promise<QueueFacts> {
  const errors: unknown[] = []
  const reader = redisQueueFacts({
    redis,
    keys,
    bullPrefix: 'bull',
    now: () => now,
    onError: (_queue, error) => errors.push(error),
  })
  const [facts] = await reader.read(['img'])
  if (!facts) throw new Error(`not measured: ${String(errors[0])}`)
  return facts
}

describe("a measurement of BullMQ's queue", () => {
  it('counts its jobs and names the one that is next', async () => {
    await queue.add('n', {}, { jobId: 'second', priority: 5 })
    const head = await queue.add('n', {}, { jobId: 'first' })
    await queue.add('n', {}, { delay: HOUR_MS })
    expect(await measure()).toMatchObject({
      waiting: 2,
      delayed: 1,
      active: 0,
      paused: false,
      maxed: false,
      head: 'first:0',
      limitedMs: 0,
    })
    await head.remove()
    expect(await measure()).toMatchObject({ waiting: 1, head: 'second:0' })
  })

  it('counts the exhausted and those that failed for good, and names the groups whose breaker is open', async () => {
    expect(await measure()).toMatchObject({ exhausted: 0, permanent: 0, breakersOpen: [] })
    const k = queueKeys('bull', 'img')
    await redis.zadd(k.exhausted, 1, 'a', 2, 'b')
    await redis.zadd(k.permanent, 1, 'c')
    await redis.hset(k.breakers, { zeta: '{}', '': '{}', acme: '{}' })
    expect(await measure()).toMatchObject({ exhausted: 2, permanent: 1, breakersOpen: ['', 'acme', 'zeta'] })
  })

  it('knows a pause, a rate limit and a limit on running jobs', async () => {
    await queue.pause()
    expect((await measure()).paused).toBe(true)
    await queue.resume()
    await queue.rateLimit(60_000)
    expect((await measure()).limitedMs).toBeGreaterThan(50_000)
    await queue.setGlobalConcurrency(1)
    await redis.lpush('bull:img:active', 'x')
    expect((await measure()).maxed).toBe(true)
  })

  it('B8 counts live supervisors, and those with a free slot', async () => {
    const supervisor = await startFakeSupervisor(redis, { timeoutMs: 300 })
    expect(await measure()).toMatchObject({ eligible: 1, free: 1 })
    supervisor.stopBeating()
    await redis.zadd(keys.workers('img'), 1, 'a')
    expect((await measure()).eligible).toBe(0)
  })

  it('a scheduler is overdue when its job lies past due or is missing, and not before', async () => {
    await queue.upsertJobScheduler('nightly', { pattern: '0 3 * * *' }, { name: 'n' })
    expect((await measure()).overdueSchedulers).toEqual([])
    const [id = ''] = await redis.zrange('bull:img:delayed', '0', '-1')
    const past = Date.now() - 60_000
    await redis.zadd('bull:img:repeat', past, 'nightly')
    await redis.rename(`bull:img:${id}`, `bull:img:repeat:nightly:${past}`)
    await redis.zadd('bull:img:delayed', past, `repeat:nightly:${past}`)
    expect((await measure()).overdueSchedulers).toEqual(['nightly'])
    await redis.zrem('bull:img:delayed', `repeat:nightly:${past}`)
    expect((await measure()).overdueSchedulers).toEqual([])
    await redis.del(`bull:img:repeat:nightly:${past}`)
    expect((await measure()).overdueSchedulers).toEqual(['nightly'])
  })

  it('A13 a scheduler that only one of two clocks calls past due is not overdue', async () => {
    await queue.upsertJobScheduler('nightly', { pattern: '0 3 * * *' }, { name: 'n' })
    const past = Date.now() - 60_000
    await redis.zadd('bull:img:repeat', past, 'nightly')
    expect((await measure(past - HOUR_MS)).overdueSchedulers).toEqual([])
    expect((await measure(past + HOUR_MS)).overdueSchedulers).toEqual(['nightly'])
  })

  it('a scheduler that has run as often as it should is over, not overdue', async () => {
    await queue.upsertJobScheduler('thrice', { every: 1000, limit: 3 }, { name: 'n' })
    await redis.zadd('bull:img:repeat', Date.now() - 60_000, 'thrice')
    expect((await measure()).overdueSchedulers).toEqual(['thrice'])
    await redis.hset('bull:img:repeat:thrice', 'ic', 3)
    expect((await measure()).overdueSchedulers).toEqual([])
  })

  it('B7 a queue that cannot be read is left out, and the rest goes on', async () => {
    await redis.set('bull:bad:wait', 'no list')
    const named: string[] = []
    const reader = redisQueueFacts({ redis, keys, bullPrefix: 'bull', now: Date.now, onError: (name) => named.push(name) })
    expect((await reader.read(['bad', 'img'])).map((facts) => facts.queue)).toEqual(['img'])
    expect(named).toEqual(['bad'])
  })
})

describe("the watchdog's store", () => {
  const store = () => redisWatchStore({ redis, keys, watchdogId: 'w1', timeoutMs: 1000 })

  async function silentSupervisor() {
    const supervisor = await startFakeSupervisor(redis, { timeoutMs: 1000 })
    supervisor.stopBeating()
    const [seen] = await readBeats(redis, keys, ['a'])
    if (!seen) throw new Error('no beat')
    return seen
  }

  it('A13 a deadline from before the clock stepped back is pulled in, one timeout from now', async () => {
    await silentSupervisor()
    const ahead = Date.now() + HOUR_MS
    await redis.hset(keys.beat('a'), { at: ahead, deadAt: ahead + 1000 })
    await redis.zadd(keys.due, ahead + 1000, 'a')
    const { fromTheFuture, queues } = await store().look()
    expect(fromTheFuture).toEqual(['a'])
    await store().pullIn(fromTheFuture, queues)
    const look = await store().look()
    expect(look.fromTheFuture).toEqual([])
    expect(look.nextDueInMs).toBeLessThanOrEqual(1000)
  })

  it('a dead supervisor is forgotten everywhere, unless it came back', async () => {
    const seen = await silentSupervisor()
    await store().forget(seen, ['img'])
    expect(await redis.exists(keys.beat('a'))).toBe(1)
    await redis.hset(keys.beat('a'), 'deadAt', 1)
    await store().forget({ ...seen, generation: seen.generation - 1 }, ['img'])
    expect(await redis.exists(keys.beat('a'))).toBe(1)
    await store().forget(seen, ['img'])
    expect(await redis.exists(keys.beat('a'), keys.due, keys.workers('img'), keys.free('img'))).toBe(0)
  })

  it('a garbled incident of somebody else is passed over', async () => {
    await redis.hset(keys.open, 'x', '{')
    expect((await store().look()).open).toEqual([])
  })

  it('tells a flush, also when the same watchdog sets the epoch again', async () => {
    const first = await store().look()
    expect(first.epochBefore).toBeUndefined()
    expect((await store().look()).epochBefore).toBe(first.epoch)
    await redis.flushall()
    expect((await store().look()).epoch).not.toBe(first.epoch)
  })
})

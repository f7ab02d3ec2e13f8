/** Dumps and requests for them, as they lie in a real Redis. */
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { redisBeatWriter } from '../../src/heartbeat/redis-heartbeats.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { type DumpOrder, readDumpOrder } from '../../src/stackdump/dump-request.js'
import { askForDump, onWake } from '../../src/stackdump/redis-dump-requests.js'
import { awaitAnswer, KEPT_DUMPS, listDumps, readDump, saveDumps } from '../../src/stackdump/redis-dumps.js'
import { beatOf } from '../support/beats.js'
import { deferred } from '../support/deferred.js'
import { dumpOf } from '../support/dumps.js'
import { startTestRedis } from '../support/redis.js'

const DAY_MS = 86_400_000
const keys = fleetKeys('{unstuck}')

async function setup() {
  const server = await startTestRedis()
  const redis = new Redis(server.url)
  onTestFinished(async () => {
    redis.disconnect()
    await server.stop()
  })
  const save = (request: string, ids: readonly string[], supervisor = 'a') => {
    const dumps = ids.map((id) => dumpOf({ id, supervisor }))
    const answer = { request, dumps: dumps.map((dump) => ({ id: dump.id, class: dump.class })) }
    return saveDumps(redis, keys, supervisor, answer, dumps)
  }
  return { server, redis, save }
}

/** `d-001`, … so that those of one millisecond sort as they were kept. */
const idsFrom = (first: number, count: number) =>
  Array.from({ length: count }, (_, index) => `d-${String(first + index).padStart(3, '0')}`)

describe('kept dumps', () => {
  it('are read by their ids, with the answer to whoever asked', async () => {
    const { redis, save } = await setup()
    await save('r1', ['d-1', 'd-2'])
    expect(await readDump(redis, keys, 'd-2')).toEqual(dumpOf({ id: 'd-2' }))
    expect(await readDump(redis, keys, 'd-3')).toBeUndefined()
    expect(await listDumps(redis, keys, 'a')).toEqual(['d-2', 'd-1'])
    expect(await awaitAnswer(redis, keys, 'r1', 1000)).toEqual({
      request: 'r1',
      dumps: [
        { id: 'd-1', class: 'running' },
        { id: 'd-2', class: 'running' },
      ],
    })
  })

  it('stay for a day, and answers for an hour', async () => {
    const { redis, save } = await setup()
    await save('r1', ['d-1'])
    const lives = await Promise.all([keys.dump('d-1'), keys.dumps('a'), keys.answer('r1')].map((key) => redis.pttl(key)))
    for (const [index, expected] of [DAY_MS, DAY_MS, DAY_MS / 24].entries()) {
      expect(lives[index]).toBeLessThanOrEqual(expected)
      expect(lives[index]).toBeGreaterThan(expected - 10_000)
    }
  })

  it('are a hundred of each supervisor at most: the oldest go, with their keys', async () => {
    const { redis, save } = await setup()
    await save('other', ['b-1'], 'b')
    for (const first of [0, 40, 80]) await save(`r${first}`, idsFrom(first, 40))
    expect(KEPT_DUMPS).toBe(100)
    expect(await listDumps(redis, keys, 'a')).toEqual(idsFrom(20, 100).reverse())
    const left = await redis.keys(keys.dump('d-*'))
    expect(left.sort()).toEqual(idsFrom(20, 100).map(keys.dump))
    expect(await listDumps(redis, keys, 'b')).toEqual(['b-1'])
    // More at once than are kept.
    await save('many', idsFrom(200, 130))
    expect(await listDumps(redis, keys, 'a')).toEqual(idsFrom(230, 100).reverse())
    expect(await redis.keys(keys.dump('d-*'))).toHaveLength(100)
  })

  it('that are older than a day are not listed any more', async () => {
    const { redis, save } = await setup()
    await redis.zadd(keys.dumps('a'), Date.now() - DAY_MS - 1000, 'd-0')
    await save('r1', ['d-1'])
    expect(await listDumps(redis, keys, 'a')).toEqual(['d-1'])
  })

  it('may be none, with the reason', async () => {
    const { redis } = await setup()
    await saveDumps(redis, keys, 'a', { request: 'r1', dumps: [], refused: 'no such thread' }, [])
    expect(await awaitAnswer(redis, keys, 'r1', 1000)).toEqual({ request: 'r1', dumps: [], refused: 'no such thread' })
    expect(await listDumps(redis, keys, 'a')).toEqual([])
  })

  it('are waited for no longer than allowed, and seen when they come meanwhile', async () => {
    const { redis, save } = await setup()
    const before = performance.now()
    expect(await awaitAnswer(redis, keys, 'r1', 100)).toBeUndefined()
    expect(performance.now() - before).toBeLessThan(1000)
    const coming = awaitAnswer(redis, keys, 'r1', 10_000)
    await save('r1', ['d-1'])
    expect(await coming).toMatchObject({ request: 'r1' })
  })
})

describe('a request for dumps', () => {
  const order: DumpOrder = { kind: 'dump', request: 'r1', targets: [{ queue: 'img', thread: 2 }], deep: true, incidentId: 'i1' }

  it('wakes its supervisor and nobody else, and goes with the next beat, once, to the incarnation that was meant', async () => {
    const { server, redis } = await setup()
    const subscribers = [new Redis(server.url), new Redis(server.url)]
    onTestFinished(() => {
      for (const one of subscribers) one.disconnect()
    })
    const woken = deferred<void>()
    const others: string[] = []
    const [own, other] = subscribers
    if (!own || !other) throw new Error('no subscribers')
    await onWake(own, keys, 'a', () => woken.resolve())
    await onWake(other, keys, 'b', () => others.push('woken'))
    const identity = { prefix: '{unstuck}', supervisor: 'a', incarnation: 'a-1', host: 'h', pid: 1 }
    const writer = redisBeatWriter(redis, { ...identity, timeoutMs: 5000, queues: ['img'] })
    await writer.register()
    await askForDump(redis, keys, { supervisor: 'a', incarnation: 'a-1' }, order)
    await woken.promise
    const [text = '', ...more] = (await writer.beat(beatOf({ seq: 1 }), false, false)).orders
    expect(more).toEqual([])
    expect(readDumpOrder(text, 'a-1')).toEqual(order)
    expect(readDumpOrder(text, 'a-2')).toBeUndefined()
    expect((await writer.beat(beatOf({ seq: 2 }), false, false)).orders).toEqual([])
    expect(others).toEqual([])
  })

  it('is forgotten after a minute', async () => {
    const { redis } = await setup()
    await askForDump(redis, keys, { supervisor: 'a', incarnation: 'a-1' }, order)
    const left = await redis.pttl(keys.orders('a'))
    expect(left).toBeGreaterThan(50_000)
    expect(left).toBeLessThanOrEqual(60_000)
  })
})

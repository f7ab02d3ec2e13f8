/** What Redis counts of attempts: the scripts behind the ledger, on a real Redis with real BullMQ claims. */
import { type Job, Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { REAP } from '../../src/dispatch/bullmq-scripts.js'
import type { Claim } from '../../src/dispatch/ledger.js'
import { redisAttempts } from '../../src/dispatch/redis-attempts.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { startTestRedis } from '../support/redis.js'

const QUEUE = 'mail'
const k = queueKeys('bull', QUEUE)
const OWNER = 'a#0123456789ab'
const FAILED = { mayPass: true, threadLost: false }

async function setup(breaker = { failures: 5, probeMs: 60_000 }) {
  const server = await startTestRedis()
  onTestFinished(() => server.stop())
  const redis = new Redis(server.url)
  onTestFinished(() => redis.disconnect())
  const queue = new Queue(QUEUE, { connection: { url: server.url } })
  onTestFinished(() => queue.close())
  const taker = new Worker(QUEUE, async () => undefined, {
    connection: { url: server.url, maxRetriesPerRequest: null },
    name: OWNER,
    skipStalledCheck: true,
    autorun: false,
  })
  taker.on('error', () => undefined)
  onTestFinished(() => taker.close(true))
  let tokens = 0
  const claim = async (): Promise<Claim & { job: Job }> => {
    tokens += 1
    const token = `token-${tokens}`
    const job = (await taker.getNextJob(token)) as Job | undefined
    if (!job) throw new Error('nothing to claim')
    const group = (job.opts as { unstuck?: { group: string } }).unstuck?.group
    return { id: String(job.id), token, fence: job.attemptsStarted, group, job }
  }
  const add = (count: number, group?: string) =>
    queue.addBulk(
      Array.from({ length: count }, () => ({
        name: 'm',
        data: {},
        opts: { attempts: 8, ...(group === undefined ? {} : { unstuck: { group } }) },
      })),
    )
  const records = redisAttempts({
    redis: async () => redis,
    keys: k,
    owner: OWNER,
    attemptsMax: 8,
    maxResets: 5,
    breaker,
    settings: 'f00d',
  })
  /** A job that fails and waits for its next try. */
  const fail = async () => {
    const one = await claim()
    const ended = await records.end(one, FAILED)
    await one.job.moveToDelayed(Date.now() + 3_600_000, one.token)
    return { ...one, ended }
  }
  const breakerOf = async (group = '') => JSON.parse((await redis.hget(k.breakers, group)) ?? 'null') as Record<string, unknown>
  return { redis, queue, claim, add, fail, records, breakerOf }
}

describe('the end of an attempt', () => {
  it('gives the counters as Redis has them, not as the worker remembers', async () => {
    const { redis, add, claim, records } = await setup()
    await add(1)
    const one = await claim()
    await redis.hset(k.job(one.id), { atm: 4, 'unstuck:resets': 2 })
    expect(await records.end(one, FAILED)).toEqual({ attemptsMade: 4, attemptsMax: 8, resets: 2, charged: true, openedAt: 0 })
  })

  it('C2 of a job that names no attempts uses the policy of its queue', async () => {
    const { queue, claim, records } = await setup()
    await queue.add('plain', {})
    expect(await records.end(await claim(), FAILED)).toMatchObject({ attemptsMax: 8 })
  })

  it('is refused to a claim that somebody took over, and to one that lost its job', async () => {
    const { redis, add, claim, records } = await setup()
    await add(1)
    const one = await claim()
    expect(await records.end({ ...one, fence: 2 }, FAILED)).toBeUndefined()
    expect(await records.end({ ...one, token: 'other' }, FAILED)).toBeUndefined()
    expect(await REAP.run(redis, [k.root], [one.id, OWNER, 1, 'lost', 8, 'any', 1])).toBe(1)
    expect(await records.end(one, FAILED)).toBeUndefined()
    const again = await claim()
    expect(await records.end(one, FAILED)).toBeUndefined()
    expect(await records.end(again, FAILED)).toMatchObject({ attemptsMade: 1 })
  })

  it('asked twice, after a lost reply, counts once and answers the same', async () => {
    const { redis, add, claim, records } = await setup()
    await add(9)
    const one = await claim()
    const lost = { mayPass: true, threadLost: true }
    expect(await records.end(one, lost)).toEqual(await records.end(one, lost))
    expect(await redis.hget(k.job(one.id), 'stc')).toBe('1')
    expect(await redis.scard(k.failures(''))).toBe(1)
  })

  it('tells that somebody cancelled it', async () => {
    const { redis, add, claim, records } = await setup()
    await add(1)
    const one = await claim()
    await redis.hset(k.job(one.id), 'unstuck:cancel', 'cancelled by ann')
    expect(await records.end(one, FAILED)).toMatchObject({ cancelled: 'cancelled by ann' })
  })
})

describe('a job about to fail', () => {
  it('C4 is in the index before BullMQ moves it, with what it needs to come back', async () => {
    const { redis, add, claim, records } = await setup()
    await add(1, 'acme')
    const one = await claim()
    await records.end(one, FAILED)
    await records.fail(one, 'exhausted', 1000)
    const fields = await redis.hgetall(k.job(one.id))
    expect(fields).toMatchObject({ 'unstuck:kind': 'exhausted', 'unstuck:group': 'acme', 'unstuck:settings': 'f00d' })
    expect(Number(fields['unstuck:cooldownUntil']) - Number(fields['unstuck:failedAt'])).toBe(1000)
    expect(await redis.zscore(k.exhausted, one.id)).toBe(fields['unstuck:cooldownUntil'])
  })

  it('C7 for good waits in the other index, and a cancelled one in none', async () => {
    const { redis, add, claim, records } = await setup()
    await add(2)
    const [one, two] = [await claim(), await claim()]
    for (const job of [one, two]) await records.end(job, FAILED)
    await records.fail(one, 'poison', 0)
    await records.fail(two, 'cancelled', 0)
    expect(await redis.zrange(k.permanent, '0', '-1')).toEqual([one.id])
    expect(await redis.zcard(k.exhausted)).toBe(0)
  })

  it('is refused without an end of the very attempt', async () => {
    const { redis, add, claim, records } = await setup()
    await add(1)
    const one = await claim()
    await records.fail(one, 'exhausted', 1000)
    expect(await redis.zcard(k.exhausted)).toBe(0)
  })
})

describe('the breaker of a group', () => {
  it('C11 opens at the configured count of different jobs, once, and that one is charged', async () => {
    const { add, fail } = await setup()
    await add(20)
    const ended = []
    for (let n = 0; n < 6; n += 1) ended.push((await fail()).ended)
    expect(ended.map((one) => one?.openedAt)).toEqual([0, 0, 0, 0, 5, 0])
    expect(ended.map((one) => one?.charged)).toEqual([true, true, true, true, true, false])
  })

  it('C11 counts the same job once, however often it fails', async () => {
    const { redis, add, claim, records } = await setup()
    await add(20)
    const one = await claim()
    for (let n = 0; n < 9; n += 1) {
      await redis.hdel(k.job(one.id), 'unstuck:ended')
      expect(await records.end(one, FAILED)).toMatchObject({ openedAt: 0 })
    }
  })

  it('C11 opens at the number of live jobs when that is smaller, but never below 3', async () => {
    const few = await setup({ failures: 20, probeMs: 60_000 })
    await few.add(2)
    expect([(await few.fail()).ended?.openedAt, (await few.fail()).ended?.openedAt]).toEqual([0, 0])
    await few.add(2)
    expect([(await few.fail()).ended?.openedAt, (await few.fail()).ended?.openedAt]).toEqual([0, 4])
  })

  it('C11 does not take the live jobs of other groups for its own', async () => {
    const { add, fail } = await setup({ failures: 20, probeMs: 60_000 })
    await add(3, 'acme')
    await add(40)
    const ended = []
    for (let n = 0; n < 3; n += 1) ended.push((await fail()).ended?.openedAt)
    expect(ended).toEqual([0, 0, 3])
    expect((await fail()).ended).toMatchObject({ charged: true, openedAt: 0 })
  })

  it('C11 a success between forgets the failures', async () => {
    const { add, fail, records } = await setup()
    await add(20)
    for (let n = 0; n < 4; n += 1) await fail()
    expect(await records.worked([''])).toEqual([])
    for (let n = 0; n < 4; n += 1) expect((await fail()).ended).toMatchObject({ openedAt: 0 })
    expect((await fail()).ended).toMatchObject({ openedAt: 5 })
  })

  it('permanent failures and hand-backs are none of its business', async () => {
    const { redis, add, claim, records } = await setup()
    await add(9)
    for (let n = 0; n < 9; n += 1) await records.end(await claim(), { mayPass: false, threadLost: false })
    expect(await redis.exists(k.failures(''), k.breakers)).toBe(0)
  })

  /** Five jobs have failed, the breaker is open, and its probe is due. */
  async function opened() {
    const stage = await setup({ failures: 5, probeMs: 0 })
    await stage.add(20)
    for (let n = 0; n < 5; n += 1) await stage.fail()
    return stage
  }

  it('C11 lets one probe through at a time, and parks the others uncharged', async () => {
    const { redis, claim, records } = await opened()
    const [one, two] = [await claim(), await claim()]
    expect([await records.gate(one), await records.gate(two), await records.gate(two)]).toEqual(['probe', 'park', 'park'])
    expect(await redis.zrange(k.parked(''), '0', '-1')).toEqual([two.id])
    expect(await redis.hget(k.job(two.id), 'unstuck:parked')).toBe('1')
  })

  it('C11 a probe that fails is not charged, opens nothing anew, and makes room for another job', async () => {
    const { redis, claim, records, breakerOf } = await opened()
    const [one, two] = [await claim(), await claim()]
    const before = await breakerOf()
    expect(await records.gate(one)).toBe('probe')
    expect(await records.end(one, FAILED)).toMatchObject({ charged: false, openedAt: 0 })
    await redis.hset(k.breakers, '', JSON.stringify({ ...(await breakerOf()), nextProbeAt: 0 }))
    expect(await breakerOf()).toMatchObject({ openedAt: before['openedAt'], lastProbe: one.id })
    expect(await records.gate(two)).toBe('probe')
  })

  it('C11 the same job is the next probe only when no other came for a whole period', async () => {
    const { redis, claim, records, breakerOf } = await setup({ failures: 3, probeMs: 60_000 }).then(async (stage) => {
      await stage.add(5)
      for (let n = 0; n < 3; n += 1) await stage.fail()
      return stage
    })
    const one = await claim()
    const due = async (ago: number) => {
      const [seconds] = await redis.time()
      const breaker = { ...(await breakerOf()), probe: undefined, lastProbe: one.id, nextProbeAt: Number(seconds) * 1000 - ago }
      await redis.hset(k.breakers, '', JSON.stringify(breaker))
    }
    await due(30_000)
    expect(await records.gate(one)).toBe('park')
    await due(62_000)
    expect(await records.gate(one)).toBe('probe')
  })

  it('a probe that was lost with its supervisor holds nobody up', async () => {
    const { redis, claim, records } = await opened()
    const [one, two] = [await claim(), await claim()]
    expect(await records.gate(one)).toBe('probe')
    await REAP.run(redis, [k.root], [one.id, OWNER, one.fence, 'lost', 8, 'any', 1])
    expect(await records.gate(two)).toBe('probe')
  })

  it('C11 while it is open a lost supervisor is no charge either', async () => {
    const { redis, claim } = await opened()
    const one = await claim()
    await REAP.run(redis, [k.root], [one.id, OWNER, one.fence, 'lost', 8, 'any', 1])
    expect(await redis.hmget(k.job(one.id), 'atm', 'stc')).toEqual([null, '1'])
  })

  it('C11 closes once, by a success, and orders the release of what it held', async () => {
    const { redis, records, claim } = await opened()
    const one = await claim()
    expect(await Promise.all([records.worked(['']), records.worked([''])])).toEqual([[''], []])
    expect(await records.gate(one)).toBe('run')
    const [campaign, ...more] = (await redis.lrange(k.campaigns, 0, -1)).map((text) => JSON.parse(text) as object)
    expect(more).toEqual([])
    expect(campaign).toMatchObject({ by: 'breaker', group: '', parked: true, actor: OWNER, cursor: '0' })
  })
})

describe('a proven heartbeat', () => {
  it('C8 sets the attempts of the current claim back, counted and with an audit entry', async () => {
    const { redis, add, claim, records } = await setup()
    await add(1)
    const one = await claim()
    await redis.hset(k.job(one.id), 'atm', 4)
    expect(await records.proven(one)).toEqual({ closed: false, attempts: 4 })
    expect(await redis.hmget(k.job(one.id), 'atm', 'unstuck:resets')).toEqual(['0', '1'])
    const [[, fields] = []] = await redis.xrange(k.audit, '-', '+')
    expect(fields).toEqual(expect.arrayContaining(['by', 'heartbeat', 'attempts', '4', 'actor', OWNER]))
  })

  it('C8 of an attempt that has ended, or of an older claim, changes nothing', async () => {
    const { redis, add, claim, records } = await setup()
    await add(1)
    const four = await claim()
    await redis.hset(k.job(four.id), 'atm', 4)
    await records.end(four, FAILED)
    expect(await records.proven(four)).toBeUndefined()
    await four.job.moveToDelayed(Date.now(), four.token)
    const five = await claim()
    expect(await records.proven(four)).toBeUndefined()
    expect(await redis.hget(k.job(five.id), 'atm')).toBe('4')
  })

  it('C6 is refused its reset after maxResets of them, and still is a proof', async () => {
    const { redis, add, claim, records } = await setup()
    await add(1)
    const one = await claim()
    await redis.hset(k.job(one.id), { atm: 4, 'unstuck:resets': 5 })
    expect(await records.proven(one)).toEqual({ closed: false, attempts: 0 })
    expect(await redis.hget(k.job(one.id), 'atm')).toBe('4')
  })

  it('C11 closes the breaker whose probe it is, and no other', async () => {
    const { add, fail, claim, records } = await setup({ failures: 3, probeMs: 0 })
    await add(9)
    const older = await claim()
    for (let n = 0; n < 3; n += 1) await fail()
    expect(await records.proven(older)).toMatchObject({ closed: false })
    const probe = await claim()
    expect(await records.gate(probe)).toBe('probe')
    expect(await records.proven(probe)).toMatchObject({ closed: true })
  })
})

describe('a lost supervisor', () => {
  it('D8 counts against the scheduler too, whose jobs bear a new id each time', async () => {
    const { redis, queue, claim, records } = await setup()
    await queue.upsertJobScheduler('nightly', { every: 60_000 }, { name: 'm' })
    const one = await claim()
    await REAP.run(redis, [k.root], [one.id, OWNER, one.fence, 'lost', 8, 'any', 1])
    expect(await records.schedulerLosses('nightly')).toBe(1)
    await records.clearScheduler('nightly')
    expect(await records.schedulerLosses('nightly')).toBe(0)
  })

  it('of a job that somebody cancelled leads to its end, not to another run', async () => {
    const { redis, add, claim } = await setup()
    await add(1)
    const one = await claim()
    await redis.hset(k.job(one.id), 'unstuck:cancel', 'cancelled by ann')
    await REAP.run(redis, [k.root], [one.id, OWNER, one.fence, 'lost', 8, 'any', 1])
    expect(await redis.hmget(k.job(one.id), 'defa', 'atm')).toEqual(['cancelled by ann', null])
  })
})

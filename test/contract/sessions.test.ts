/** The records of sessions and the claims that they hang on: the scripts on a real Redis, with real BullMQ claims. */
import { type Job, Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { REAP } from '../../src/dispatch/bullmq-scripts.js'
import { redisGhostRecords, redisSessionRecords } from '../../src/dispatch/redis-sessions.js'
import type { SessionRecord } from '../../src/launch/session.js'
import type { SessionClaim } from '../../src/launch/session-records.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { startTestRedis } from '../support/redis.js'

const QUEUE = 'agents'
const HOST = 'h1'
const OWNER = 'a#0123456789ab'
const HEIR = 'b#0123456789ab'
const RIVAL = 'c#0123456789ab'
const LOCK_MS = 30_000
const PROCESS = { pid: 77, startedAt: '12345/boot' }
const k = queueKeys('bull', QUEUE)

async function setup() {
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
  const claim = async (): Promise<SessionClaim & { job: Job }> => {
    tokens += 1
    const token = `token-${tokens}`
    const job = (await taker.getNextJob(token)) as Job | undefined
    if (!job) throw new Error('nothing to claim')
    return { id: String(job.id), token, fence: job.attemptsStarted, job }
  }
  /** One job, claimed. */
  const claimed = async (jobId = 'j1') => {
    await queue.add('run', {}, { jobId, attempts: 8 })
    return claim()
  }
  const unreadable: string[] = []
  const onUnreadable = (of: string, job: string, why: string) => void unreadable.push(`${of}/${job}: ${why}`)
  const options = { redis, bullPrefix: 'bull', host: HOST, lockDurationMs: LOCK_MS, onUnreadable }
  const ghostsOf = (owner: string) => redisGhostRecords({ ...options, owner })
  const records = redisSessionRecords({ ...options, owner: OWNER }, QUEUE)
  /** A claimed job whose session runs, and is written down. */
  const running = async () => {
    const one = await claimed()
    const record = recordFor(one, { process: PROCESS })
    await records.open(one, recordFor(one))
    await records.update(one, record)
    return { ...one, record }
  }
  const reap = (one: SessionClaim, owner = OWNER) => REAP.run(redis, [k.root], [one.id, owner, one.fence, 'lost', 8, 'any', 1])
  const stored = async (id = 'j1') => JSON.parse((await redis.hget(k.sessions(HOST), id)) ?? 'null') as SessionRecord | null
  return { redis, queue, claim, claimed, running, records, ghostsOf, reap, stored, unreadable }
}

function recordFor({ id, fence }: SessionClaim, changes: Partial<SessionRecord> = {}): SessionRecord {
  const folder = `/run/é "${id}"\\${fence}`
  return {
    queue: QUEUE,
    job: id,
    fence,
    owner: OWNER,
    host: HOST,
    folder,
    workspace: { path: `${folder}/workspace`, git: { repo: '/repo', branch: `unstuck/${QUEUE}/${id}` } },
    ...changes,
  }
}

describe('the record of a session', () => {
  it('is opened under the claim of its job, with all that was written', async () => {
    const { claimed, records, stored } = await setup()
    const one = await claimed()
    expect(await records.open(one, recordFor(one))).toBe('opened')
    expect(await stored()).toEqual(recordFor(one))
    expect(await records.open(one, recordFor(one))).toBe('opened')
  })

  it('D5: is refused to another fence, another token and a job that is not in progress', async () => {
    const { redis, claimed, records, reap } = await setup()
    const one = await claimed()
    expect(await records.open({ ...one, fence: 0 }, recordFor(one))).toBe('not_ours')
    expect(await records.open({ ...one, fence: 2 }, recordFor(one))).toBe('not_ours')
    expect(await records.open({ ...one, token: 'other' }, recordFor(one))).toBe('not_ours')
    expect(await records.open({ ...one, id: 'no such' }, recordFor(one))).toBe('not_ours')
    await reap(one)
    expect(await records.open(one, recordFor(one))).toBe('not_ours')
    expect(await redis.exists(k.sessions(HOST))).toBe(0)
  })

  it('is opened also when the lock has expired, while the job is in progress under the same fence', async () => {
    const { redis, claimed, records } = await setup()
    const one = await claimed()
    await redis.del(k.lock(one.id))
    expect(await records.open(one, recordFor(one))).toBe('opened')
  })

  it('D5: of an older claim is in the way of a later one, which gets it back as it is', async () => {
    const { claim, running, records, reap, stored } = await setup()
    const one = await running()
    await reap(one)
    const two = await claim()
    expect(await records.open(two, recordFor(two))).toEqual(one.record)
    expect(await stored()).toEqual(one.record)
    await records.close(one.record)
    expect(await records.open(two, recordFor(two))).toBe('opened')
  })

  it('is written again only under its own claim, and only while it is there', async () => {
    const { claim, running, records, reap, stored } = await setup()
    const one = await running()
    expect(await stored()).toEqual(one.record)
    expect(await records.update({ ...one, token: 'other' }, recordFor(one))).toBe(false)
    await reap(one)
    expect(await records.update(one, recordFor(one))).toBe(false)
    const two = await claim()
    expect(await records.update(two, recordFor(two))).toBe(false)
    expect(await stored()).toEqual(one.record)
    await records.close(one.record)
    expect(await records.update(two, recordFor(two))).toBe(false)
    expect(await stored()).toBeNull()
  })

  it.each(['{', 'null', '{"fence":1}'])(
    'that cannot be read (%s) lets no other session begin, and says what to do',
    async (json) => {
      const { redis, claimed, records } = await setup()
      const one = await claimed()
      const two = { ...one, fence: 2 }
      await redis.hset(k.job(one.id), 'ats', 2)
      await redis.hset(k.sessions(HOST), one.id, json)
      await expect(records.open(two, recordFor(two))).rejects.toThrow(
        /cannot be read .* HDEL bull:agents:unstuck:sessions:h1 j1$/,
      )
      expect(await records.update(two, recordFor(two))).toBe(false)
      expect(await redis.hget(k.sessions(HOST), one.id)).toBe(json)
    },
  )

  it('is removed by its own fence only, also after the claim is gone, and twice is no harm', async () => {
    const { running, records, reap, stored } = await setup()
    const one = await running()
    await reap(one)
    await records.close({ ...one.record, fence: 2 })
    expect(await stored()).toEqual(one.record)
    await records.close(one.record)
    await records.close(one.record)
    expect(await stored()).toBeNull()
  })

  it('is another for another host', async () => {
    const { redis, running } = await setup()
    await running()
    expect(await redis.exists(k.sessions('h2'))).toBe(0)
  })
})

describe('a claim', () => {
  it('D5: holds for its own session, and for no older or other one', async () => {
    const { claim, claimed, records, reap } = await setup()
    const one = await claimed()
    expect(await records.holds(one)).toBe(true)
    expect(await records.holds({ ...one, token: 'other' })).toBe(false)
    expect(await records.holds({ ...one, id: 'no such' })).toBe(false)
    await reap(one)
    expect(await records.holds(one)).toBe(false)
    const two = await claim()
    expect([await records.holds(one), await records.holds(two)]).toEqual([false, true])
  })

  it('lets its session keep its output, also when it has just ended, and no older one', async () => {
    const { redis, claim, claimed, records, reap } = await setup()
    const one = await claimed()
    await records.output(one, 'one\n')
    const output = () => redis.hget(k.job('j1'), 'unstuck:output')
    expect(await output()).toBe('one\n')
    await reap(one)
    await records.output(one, 'still one\n')
    expect(await output()).toBe('still one\n')
    const two = await claim()
    await records.output(one, 'too late\n')
    expect(await output()).toBe('still one\n')
    await records.output(two, 'two\n')
    expect(await output()).toBe('two\n')
  })

  it('of a job that was removed leaves nothing behind', async () => {
    const { redis, claimed, records } = await setup()
    const one = await claimed()
    await redis.del(k.job(one.id))
    await records.output(one, 'one\n')
    expect(await redis.exists(k.job(one.id))).toBe(0)
  })
})

describe('the sessions of a host', () => {
  it('are all listed, but for those that cannot be read, which are told', async () => {
    const { redis, running, ghostsOf, unreadable } = await setup()
    const one = await running()
    const { workspace: _, ...half } = one.record
    await redis.hset(k.sessions(HOST), { bad: '{', half: JSON.stringify(half), none: 'null' })
    expect(await ghostsOf(HEIR).list(QUEUE)).toEqual([one.record])
    expect(unreadable.map((line) => line.split(':')[0]).sort()).toEqual(['agents/bad', 'agents/half', 'agents/none'])
    expect(await ghostsOf(HEIR).list('other')).toEqual([])
  })

  it('D4: a ghost is taken over by one, with all else that is written of it', async () => {
    const { running, ghostsOf, stored, reap } = await setup()
    const { record, ...one } = await running()
    await reap(one)
    const taken = await Promise.all([ghostsOf(HEIR).takeOver(record), ghostsOf(RIVAL).takeOver(record)])
    expect(taken).toEqual([true, false])
    expect(await stored()).toEqual({ ...record, owner: HEIR })
    await ghostsOf(HEIR).close(record)
    expect(await stored()).toEqual({ ...record, owner: HEIR })
    await ghostsOf(HEIR).close({ ...record, owner: HEIR })
    expect(await stored()).toBeNull()
  })

  it('is not taken over once it is another session, or gone; by its own owner it may be, again', async () => {
    const { running, ghostsOf, stored } = await setup()
    const { record } = await running()
    expect(await ghostsOf(HEIR).takeOver({ ...record, fence: 2 })).toBe(false)
    expect(await ghostsOf(HEIR).takeOver({ ...record, owner: RIVAL })).toBe(false)
    expect(await ghostsOf(OWNER).takeOver(record)).toBe(true)
    expect(await stored()).toEqual(record)
    await ghostsOf(HEIR).close(record)
    expect(await ghostsOf(HEIR).takeOver(record)).toBe(false)
  })
})

describe('an adoption', () => {
  it('D5: makes the attempt and its session ours in one step: the same fence, a lock, an owner', async () => {
    const { redis, running, ghostsOf, records, stored } = await setup()
    const { record, ...one } = await running()
    await redis.sadd(k.stalled, one.id)
    const token = await ghostsOf(HEIR).adopt(record)
    if (token === undefined) throw new Error('not adopted')
    expect(await stored()).toEqual({ ...record, owner: HEIR })
    expect(await redis.hmget(k.job(one.id), 'pb', 'ats', 'atm')).toEqual([HEIR, '1', null])
    expect(await redis.get(k.lock(one.id))).toBe(token)
    expect(await redis.pttl(k.lock(one.id))).toBeGreaterThan(LOCK_MS / 2)
    expect(await redis.scard(k.stalled)).toBe(0)
    expect(await records.holds({ ...one, token })).toBe(true)
    expect(await records.holds(one)).toBe(false)
  })

  it('D5: is had by one of two, and by another again once that one is gone', async () => {
    const { running, ghostsOf } = await setup()
    const { record } = await running()
    const tokens = await Promise.all([ghostsOf(HEIR).adopt(record), ghostsOf(RIVAL).adopt(record)])
    expect(tokens).toEqual([expect.any(String), undefined])
    const [seen] = await ghostsOf(RIVAL).list(QUEUE)
    if (!seen) throw new Error('no record')
    expect(await ghostsOf(RIVAL).adopt(seen)).toEqual(expect.any(String))
  })

  it.each(['adopt', 'reap'] as const)(
    'D5: against who takes the job back: the first (%s) has it, the other nothing',
    async (first) => {
      const { redis, running, ghostsOf, reap } = await setup()
      const { record, ...one } = await running()
      const adopt = () => ghostsOf(HEIR).adopt(record)
      const [token, reaped] =
        first === 'adopt'
          ? await Promise.all([adopt(), reap(one)])
          : await Promise.all([reap(one), adopt()]).then(([back, had]) => [had, back] as const)
      expect([token !== undefined, reaped]).toEqual(first === 'adopt' ? [true, 0] : [false, 1])
      expect(await redis.llen(k.active)).toBe(first === 'adopt' ? 1 : 0)
      expect(await redis.llen(k.wait)).toBe(first === 'adopt' ? 0 : 1)
      expect(await redis.exists(k.lock(one.id))).toBe(first === 'adopt' ? 1 : 0)
    },
  )

  it.each<readonly [string, (redis: Redis, id: string) => Promise<unknown>]>([
    ['was cancelled', (redis, id) => redis.hset(k.job(id), 'unstuck:cancel', 'cancelled by ann')],
    ['has ended', (redis, id) => redis.hset(k.job(id), 'unstuck:ended', '1 1')],
    ['is in progress no more', (redis, id) => redis.lrem(k.active, 1, id)],
    ['bears another fence', (redis, id) => redis.hset(k.job(id), 'ats', 2)],
    ['was claimed by another', (redis, id) => redis.hset(k.job(id), 'pb', RIVAL)],
    ['is gone', (redis, id) => redis.del(k.job(id))],
    ['has no such record', (redis) => redis.del(k.sessions(HOST))],
  ])('D3: is refused, and changes nothing, when its job %s', async (_, change) => {
    const { redis, running, ghostsOf } = await setup()
    const { record, ...one } = await running()
    await change(redis, one.id)
    const all = async () => [
      await redis.hgetall(k.job(one.id)),
      await redis.hgetall(k.sessions(HOST)),
      await redis.get(k.lock(one.id)),
    ]
    const before = await all()
    expect(await ghostsOf(HEIR).adopt(record)).toBeUndefined()
    expect(await all()).toEqual(before)
  })

  it('is not refused for an older attempt that ended', async () => {
    const { redis, running, ghostsOf } = await setup()
    const { record, ...one } = await running()
    await redis.hset(k.job(one.id), 'unstuck:ended', '0 1')
    expect(await ghostsOf(HEIR).adopt(record)).toEqual(expect.any(String))
  })
})

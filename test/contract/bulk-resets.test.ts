/** What the reconcile loop puts back: many jobs at a pace, on a real Redis with the real Queue and Worker. */
import { type Job, UnrecoverableError } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Observer } from '../../src/heartbeat/observer.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { systemClock } from '../../src/platform/system-clock.js'
import { redisReconcile } from '../../src/recovery/redis-reconcile.js'
import {
  orderBulkReset,
  promoteProbes,
  releaseDue,
  startRestarts,
  sweepPage,
  workCampaign,
} from '../../src/recovery/redis-resets.js'
import type { SweepCursors } from '../../src/recovery/sweep-plan.js'
import { deferred } from '../support/deferred.js'
import { failedJobs, k, OWNER, QUEUE, SETTINGS } from '../support/failed-jobs.js'

const ATTEMPTS = { max: 8, maxResets: 5, cooldownMs: 60_000, slowRetryMs: 600_000 }
const RULES = { perSecond: 1000, aheadMs: 6000, actor: OWNER, settings: SETTINGS, attempts: ATTEMPTS }
const START: SweepCursors = { failed: '0', exhausted: '0', permanent: '0' }
const AN_HOUR = 3_600_000

async function setup() {
  const stage = await failedJobs()
  const { redis } = stage
  const release = (rules: Partial<typeof RULES> = {}) => releaseDue(redis, k, { ...RULES, ...rules })
  const order = (what: Partial<Parameters<typeof orderBulkReset>[2]> = {}) =>
    orderBulkReset(redis, k, { by: 'hand', actor: 'ann', ...what })
  /** Works bulk resets off until the pace holds them or none is left. @returns how many jobs were reset */
  const work = async (rules: Partial<typeof RULES> = {}): Promise<number> => {
    for (let sum = 0; ; ) {
      const { state, reset } = await workCampaign(redis, k, { ...RULES, ...rules })
      sum += reset
      if (state !== 'more') return sum
    }
  }
  const sweep = (rules: Partial<typeof RULES> = {}, cursors = START) =>
    sweepPage(redis, k, { ...RULES, ...rules }, cursors, 1000)
  const delayed = async () => (await stage.schedule()).map(({ id }) => id).sort()
  /** What a claim under an open breaker comes to: noted, and put off for an hour. */
  const park = async (group = '', at = Date.now()): Promise<string> => {
    await stage.add({ group })
    const { job, id, token, fence } = await stage.claim()
    await redis.zadd(k.parked(group), at, id)
    await redis.hset(k.job(id), 'unstuck:parked', fence)
    await job.moveToDelayed(Date.now() + AN_HOUR, token)
    return id
  }
  return { ...stage, release, order, work, sweep, delayed, park }
}

/** Raw jobs in the failed set: as many as no test could fail one by one. */
async function fillFailed(redis: Redis, count: number, cooldownUntil: number): Promise<void> {
  const pipeline = redis.pipeline()
  for (let index = 0; index < count; index++) {
    const id = `e${index}`
    const failure = { 'unstuck:kind': 'exhausted', 'unstuck:failedAt': 1, 'unstuck:group': '', 'unstuck:settings': SETTINGS }
    pipeline.hset(k.job(id), {
      name: 'm',
      data: '{}',
      opts: '{"attempts":8}',
      timestamp: 1,
      atm: 8,
      ats: 8,
      pb: OWNER,
      ...failure,
    })
    pipeline.zadd(k.failed, index, id)
    pipeline.zadd(k.exhausted, cooldownUntil, id)
  }
  await pipeline.exec()
}

describe('a cooldown', () => {
  it('C5 that is over puts the job back, and it runs', async () => {
    const { failed, release, worker, redis } = await setup()
    const id = await failed({ cooldownMs: -1 })
    const done = deferred<unknown>()
    worker(async () => undefined).on('completed', (job) => done.resolve(job.id))
    expect(await release()).toEqual({ reset: 1, more: false })
    expect(await done.promise).toBe(id)
    expect(await redis.zcard(k.exhausted)).toBe(0)
  })

  it('C5 that is not over leaves the job where it is', async () => {
    const { failed, release, stateOf } = await setup()
    const id = await failed({ cooldownMs: AN_HOUR })
    expect(await release()).toEqual({ reset: 0, more: false })
    expect(await stateOf(id)).toBe('failed')
  })

  it('C6 is counted, and after maxResets leaves one try', async () => {
    const { failed, release, fields, redis, audit } = await setup()
    const [fifth, sixth, ownLimit] = [await failed(), await failed(), await failed({ opts: { attempts: 3 } })]
    await redis.hset(k.job(fifth), 'unstuck:resets', 4)
    for (const id of [sixth, ownLimit]) await redis.hset(k.job(id), 'unstuck:resets', 5)
    await release()
    expect(await fields(fifth)).toMatchObject({ atm: '0', 'unstuck:resets': '5' })
    expect(await fields(sixth)).toMatchObject({ atm: '7', 'unstuck:resets': '6' })
    expect(await fields(ownLimit)).toMatchObject({ atm: '2', 'unstuck:resets': '6' })
    expect(new Set((await audit()).map(({ by, actor }) => `${by} ${actor}`))).toEqual(new Set([`cooldown ${OWNER}`]))
  })

  it('C6 of a job without attempts of its own leaves one try by the policy of its queue', async () => {
    const { queue, claim, fail, release, fields, redis } = await setup()
    await queue.add('plain', {})
    const claimed = await claim()
    await fail(claimed)
    await redis.hset(k.job(claimed.id), 'unstuck:resets', 5)
    await release()
    expect((await fields(claimed.id))['atm']).toBe('7')
  })

  it('of a job that is not failed any more, or cancelled, only leaves the index', async () => {
    const { failed, release, queue, redis, delayed } = await setup()
    const [retried, cancelled, removed] = [await failed(), await failed(), await failed()]
    await (await queue.getJob(retried))?.retry('failed')
    await redis.hset(k.job(cancelled), 'unstuck:kind', 'cancelled')
    await (await queue.getJob(removed))?.remove()
    expect(await release()).toEqual({ reset: 0, more: false })
    expect(await redis.zcard(k.exhausted)).toBe(0)
    expect(await delayed()).toEqual([])
  })
})

describe('the pace', () => {
  it('C10 lets a batch go only so far ahead, and goes on from there', async () => {
    const { redis, release, schedule } = await setup()
    await fillFailed(redis, 100, 1)
    expect(await release({ perSecond: 10, aheadMs: 2000 })).toEqual({
      reset: expect.toSatisfy((n) => n >= 18 && n <= 26),
      more: false,
    })
    const first = await schedule()
    expect(await release({ perSecond: 10, aheadMs: 2000 })).toMatchObject({ reset: expect.toSatisfy((n) => n <= 2) })
    await release({ perSecond: 10, aheadMs: 4000 })
    const both = await schedule()
    expect(both.length).toBeGreaterThan(first.length + 14)
    const gaps = both.slice(1).map(({ at }, index) => at - (both[index]?.at ?? 0))
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(79)
    expect(Math.max(...gaps)).toBeLessThanOrEqual(121)
  })

  it('C10 is shared by everybody who puts jobs back', async () => {
    const { server, redis, order, schedule } = await setup()
    await fillFailed(redis, 200, 1)
    await order()
    const others = [new Redis(server.url), new Redis(server.url)] as const
    for (const other of others) onTestFinished(() => other.disconnect())
    const slow = { ...RULES, perSecond: 10, aheadMs: 3000 }
    await Promise.all([
      releaseDue(others[0], k, slow),
      workCampaign(others[1], k, slow),
      sweepPage(redis, k, { ...slow, settings: 'new' }, START, 1000),
    ])
    expect((await schedule()).length).toBeLessThanOrEqual(40)
  })

  it('C10 of 5000 jobs never starts more than it says, nor more than may run at once', async () => {
    const { redis, order, work, worker } = await setup()
    await fillFailed(redis, 5000, 1)
    await redis.sadd(k.failures(''), 'x', 'y')
    expect(await order()).toEqual({ jobs: 5000 })
    const starts: number[] = []
    let running = 0
    let most = 0
    const enough = deferred()
    worker(
      async () => {
        if (starts.push(performance.now()) === 60) enough.resolve()
        running += 1
        most = Math.max(most, running)
        await new Promise((resolve) => setImmediate(resolve))
        running -= 1
      },
      { concurrency: 4 },
    )
    await work({ perSecond: 50, aheadMs: 2000 })
    await enough.promise
    const span = (starts[59] ?? 0) - (starts[0] ?? 0)
    expect(span).toBeGreaterThan(900)
    expect(most).toBeLessThanOrEqual(4)
    expect(await redis.zcard(k.failed)).toBeGreaterThan(4850)
    expect(await redis.scard(k.failures(''))).toBe(2)
  })

  it('keeps the order of more than one a millisecond', async () => {
    const { redis, release, schedule } = await setup()
    await fillFailed(redis, 150, 1)
    // Three pages.
    for (let page = 0; page < 3; page += 1) await release({ perSecond: 20_000 })
    const plan = await schedule()
    expect(new Set(plan.map(({ at }) => at)).size).toBe(150)
    expect((plan.at(-1)?.at ?? 0) - (plan[0]?.at ?? 0)).toBeLessThan(10)
  })
})

describe('a bulk reset', () => {
  it('takes all exhausted jobs, and none that failed for good', async () => {
    const { many, failed, order, work, delayed, stateOf } = await setup()
    const ids = await many(3, { cooldownMs: AN_HOUR })
    const permanent = await failed({ kind: 'permanent' })
    expect(await order()).toEqual({ jobs: 3 })
    expect(await work()).toBe(3)
    expect(await delayed()).toEqual(ids.sort())
    expect(await stateOf(permanent)).toBe('failed')
  })

  it('takes those that failed for good when it says so, but no cancelled ones', async () => {
    const { failed, order, work, delayed } = await setup()
    const ids = [await failed(), await failed({ kind: 'permanent' }), await failed({ kind: 'poison' })]
    await failed({ kind: 'cancelled' })
    expect(await order({ permanent: true })).toEqual({ jobs: 3 })
    expect(await work()).toBe(3)
    expect(await delayed()).toEqual(ids.sort())
  })

  it.each([
    ['of a group', 'acme', [1]],
    ['of those without one', '', [0]],
    ['of all', undefined, [0, 1, 2]],
  ] as const)('%s takes no others', async (_, group, meant) => {
    const { failed, order, work, delayed } = await setup()
    const ids = [await failed(), await failed({ group: 'acme' }), await failed({ group: 'bolt' })]
    await order(group === undefined ? {} : { group })
    await work()
    expect(await delayed()).toEqual(meant.map((index) => ids[index]).sort())
  })

  it('leaves what fails after it was ordered', async () => {
    const { failed, order, work, delayed, redis } = await setup()
    const before = await failed()
    await order()
    const after = await failed()
    await redis.hset(k.job(after), 'unstuck:failedAt', Date.now() + 5000)
    await work()
    expect(await delayed()).toEqual([before])
  })

  it('gives all attempts again, and takes the counted resets off', async () => {
    const { failed, order, work, fields, redis, audit } = await setup()
    const id = await failed()
    await redis.hset(k.job(id), 'unstuck:resets', 9)
    await order({ reason: 'the container is back' })
    await work()
    expect((await fields(id))['atm']).toBe('0')
    expect(Object.keys(await fields(id))).not.toContain('unstuck:resets')
    expect(await audit()).toEqual([
      expect.objectContaining({ by: 'hand', actor: 'ann', reason: 'the container is back', attempts: '8' }),
    ])
  })

  it('goes on where it was held, whoever works on, until all are back', async () => {
    const { redis, order, work } = await setup()
    await fillFailed(redis, 1200, 1)
    await order()
    let sum = 0
    for (let cycle = 0; cycle < 12; cycle++) {
      sum += await work({ perSecond: 100, aheadMs: 1000 * (cycle + 1) + 500 })
      expect(sum).toBeLessThanOrEqual(130 * (cycle + 2))
    }
    await work({ perSecond: 100_000, aheadMs: AN_HOUR })
    expect(await redis.zcard(k.failed)).toBe(0)
    expect(await redis.zcard(k.delayed)).toBe(1200)
    expect(await redis.llen(k.campaigns)).toBe(0)
  })

  it('that cannot be read is named and dropped, and the next one comes', async () => {
    const { redis, failed, order, work } = await setup()
    await failed()
    const broken = ['{', '[]', '{"by":"hand"}', '{"by":"hand","before":"x"}']
    await redis.rpush(k.campaigns, ...broken)
    await order()
    for (const _ of broken) await expect(work()).rejects.toThrow('could not be read and was dropped')
    expect(await work()).toBe(1)
  })

  it('refuses a reason that is too long before it is written', async () => {
    const { redis, order } = await setup()
    await expect(order({ reason: 'x'.repeat(501) })).rejects.toMatchObject({ code: 'INPUT_INVALID' })
    expect(await redis.exists(k.campaigns)).toBe(0)
  })
})

describe('a restart of a group', () => {
  it('C9 resets its exhausted jobs once, whoever and how many see it', async () => {
    const { server, failed, work, delayed, audit } = await setup()
    const mine = await failed({ group: 'acme', cooldownMs: AN_HOUR })
    await failed({ group: 'bolt', cooldownMs: AN_HOUR })
    const clients = Array.from({ length: 8 }, () => new Redis(server.url))
    for (const client of clients) onTestFinished(() => client.disconnect())
    const started = await Promise.all(clients.map((client) => startRestarts(client, k, OWNER, new Map([['acme', 1]]))))
    expect(started.reduce((sum, count) => sum + count, 0)).toBe(1)
    await work()
    expect(await delayed()).toEqual([mine])
    expect(await audit()).toEqual([expect.objectContaining({ by: 'restart', jobId: mine })])
  })

  it('C9 comes once for each death, and an older number read late brings none back', async () => {
    const { redis, failed, work } = await setup()
    const see = (number: number) => startRestarts(redis, k, OWNER, new Map([['acme', number]]))
    await failed({ group: 'acme' })
    expect(await see(1)).toBe(1)
    expect(await work()).toBe(1)
    await failed({ group: 'acme' })
    expect(await see(1)).toBe(0)
    expect(await see(3)).toBe(1)
    expect(await see(2)).toBe(0)
    expect(await work()).toBe(1)
  })

  it('stands for every group when its supervisor had none', async () => {
    const { redis, failed, work } = await setup()
    await failed({ group: 'acme' })
    await failed()
    expect(await startRestarts(redis, k, OWNER, new Map([['', 1]]))).toBe(1)
    expect(await work()).toBe(2)
  })

  it('orders nothing where nothing is exhausted, and does not come back to it', async () => {
    const { redis, failed } = await setup()
    const see = () => startRestarts(redis, k, OWNER, new Map([['acme', 1]]))
    expect(await see()).toBe(0)
    await failed({ group: 'acme' })
    expect(await see()).toBe(0)
  })
})

describe('a breaker that closed', () => {
  const closed = (group: string, before = Date.now() + 1000) =>
    JSON.stringify({ id: 'b', by: 'breaker', group, before, parked: true, actor: OWNER, cursor: '0' })

  it('C11 releases what was parked, the longest parked first and with its attempts, then what was exhausted', async () => {
    const { redis, park, failed, work, schedule, fields } = await setup()
    const exhausted = await failed({ group: 'acme', cooldownMs: AN_HOUR })
    const [late, early] = [await park('acme', 2000), await park('acme', 1000)]
    await redis.hset(k.job(late), 'atm', 3)
    const other = await park('bolt')
    await redis.rpush(k.campaigns, closed('acme'))
    expect(await work()).toBe(1)
    expect((await schedule()).map(({ id }) => id)).toEqual([early, late, exhausted, other])
    expect((await fields(late))['atm']).toBe('3')
    expect(await redis.zcard(k.parked('acme'))).toBe(0)
  })

  it('C10 releases the parked at the pace', async () => {
    const { redis, park, work, schedule } = await setup()
    for (let count = 0; count < 6; count++) await park('acme', count)
    await redis.rpush(k.campaigns, closed('acme'))
    await work({ perSecond: 2, aheadMs: 1000 })
    const soon = Date.now() + AN_HOUR / 2
    expect((await schedule()).filter(({ at }) => at < soon).length).toBeLessThanOrEqual(4)
    expect(await redis.zcard(k.parked('acme'))).toBeGreaterThanOrEqual(2)
    await work({ perSecond: 2, aheadMs: AN_HOUR })
    expect(await redis.zcard(k.parked('acme'))).toBe(0)
    expect(await redis.llen(k.campaigns)).toBe(0)
  })

  it('touches no job that was claimed since it was parked', async () => {
    const { redis, park, work, schedule } = await setup()
    const id = await park('acme')
    await redis.hincrby(k.job(id), 'ats', 1)
    await redis.rpush(k.campaigns, closed('acme'))
    await work()
    expect((await schedule())[0]?.at).toBeGreaterThan(Date.now() + AN_HOUR / 2)
  })
})

describe('the probe of an open breaker', () => {
  const PROBE_MS = 60_000
  type Stage = Awaited<ReturnType<typeof setup>>
  const open = ({ redis }: Stage, breaker: Record<string, unknown> = {}) =>
    redis.hset(k.breakers, 'acme', JSON.stringify({ openedAt: 1, nextProbeAt: Date.now() - 1000, failures: 3, ...breaker }))
  const promote = ({ redis }: Stage) => promoteProbes(redis, k, PROBE_MS)
  const called = async ({ schedule }: Stage) =>
    (await schedule()).filter(({ at }) => at < Date.now() + 5000).map(({ id }) => id)

  it('C11 is the job parked longest, called once and taken at once', async () => {
    const stage = await setup()
    const [late] = [await stage.park('acme', 2000)]
    const early = await stage.park('acme', 1000)
    await open(stage)
    expect(await promote(stage)).toBe(1)
    expect(await promote(stage)).toBe(0)
    expect(await called(stage)).toEqual([early])
    expect((await stage.claim()).id).toBe(early)
    expect(await stage.stateOf(late)).toBe('delayed')
  })

  it('is not called before it is due, and not while it is out', async () => {
    const stage = await setup()
    await stage.add({ group: 'acme' })
    const out = await stage.claim()
    await stage.park('acme')
    await open(stage, { nextProbeAt: Date.now() + 5000 })
    expect(await promote(stage)).toBe(0)
    await open(stage, { probe: out.id, probeFence: String(out.fence) })
    expect(await promote(stage)).toBe(0)
    await out.job.moveToDelayed(Date.now() + AN_HOUR, out.token)
    expect(await promote(stage)).toBe(1)
  })

  it('C11 is another one than last time, unless no other came for a whole further period', async () => {
    const stage = await setup()
    const last = await stage.park('acme', 1000)
    await open(stage, { lastProbe: last })
    expect(await promote(stage)).toBe(0)
    const other = await stage.park('acme', 2000)
    expect(await promote(stage)).toBe(1)
    expect(await called(stage)).toEqual([other])
    await stage.queue.remove(other)
    await open(stage, { lastProbe: last, nextProbeAt: Date.now() - PROBE_MS - 1000 })
    expect(await promote(stage)).toBe(1)
    expect(await called(stage)).toEqual([last])
  })

  it('is none that was claimed, cancelled or removed since it was parked', async () => {
    const stage = await setup()
    const [claimed, ended, removed] = [await stage.park('acme', 1), await stage.park('acme', 2), await stage.park('acme', 3)]
    const fit = await stage.park('acme', 4)
    await stage.redis.hincrby(k.job(claimed), 'ats', 1)
    await stage.redis.zrem(k.delayed, ended)
    await stage.redis.zadd(k.failed, 1, ended)
    await stage.queue.remove(removed)
    await open(stage)
    expect(await promote(stage)).toBe(1)
    expect(await called(stage)).toEqual([fit])
    expect(await stage.redis.zrange(k.parked('acme'), '0', '-1')).toEqual([fit])
  })

  it('of a breaker that cannot be read is none', async () => {
    const stage = await setup()
    await stage.park('acme')
    await stage.redis.hset(k.breakers, 'acme', '{')
    expect(await promote(stage)).toBe(0)
  })
})

describe('a sweep of the failed jobs', () => {
  const ALL = { failed: 'done', exhausted: 'done', permanent: 'done' }

  /** A job that BullMQ failed without a word from us. */
  async function silently({ add, claim, redis }: Awaited<ReturnType<typeof setup>>, made: number, by = OWNER) {
    const { id } = await add({ group: 'acme' })
    const { job, token } = await claim()
    await redis.hset(k.job(String(id)), { atm: made - 1, pb: by })
    await job.moveToFailed(new UnrecoverableError('missing'), token, false)
    return String(id)
  }

  it('C4 notes what BullMQ failed by itself: exhausted when its attempts are used up, else for good', async () => {
    const stage = await setup()
    const { redis, sweep, fields } = stage
    const [exhausted, permanent] = [await silently(stage, 8), await silently(stage, 2)]
    expect(await sweep()).toMatchObject({ cursors: ALL, reset: 0 })
    const noted = await fields(exhausted)
    expect(noted).toMatchObject({ 'unstuck:kind': 'exhausted', 'unstuck:group': 'acme', 'unstuck:settings': SETTINGS })
    expect(Number(noted['unstuck:cooldownUntil']) - Number(noted['finishedOn'])).toBe(ATTEMPTS.cooldownMs)
    expect(await redis.zscore(k.exhausted, exhausted)).toBe(noted['unstuck:cooldownUntil'])
    expect(await redis.zrange(k.permanent, '0', '-1')).toEqual([permanent])
  })

  it('C6 gives such a job the slow cooldown once its resets are used up', async () => {
    const stage = await setup()
    const id = await silently(stage, 8)
    await stage.redis.hset(k.job(id), 'unstuck:resets', 5)
    await stage.sweep()
    const noted = await stage.fields(id)
    expect(Number(noted['unstuck:cooldownUntil']) - Number(noted['finishedOn'])).toBe(ATTEMPTS.slowRetryMs)
  })

  it.each(['theirs', 'w#1', 'a#0123456789abc', 'a#0123456789xy'])(
    'leaves what the worker %j of another program failed',
    async (by) => {
      const stage = await setup()
      const id = await silently(stage, 8, by)
      await stage.sweep()
      expect(await stage.redis.zcard(k.exhausted)).toBe(0)
      expect(Object.keys(await stage.fields(id))).not.toContain('unstuck:kind')
    },
  )

  it('mends an index that lost an entry, and one that has too many', async () => {
    const { redis, failed, sweep, queue, fields } = await setup()
    const [lost, good] = [await failed({ cooldownMs: AN_HOUR }), await failed({ kind: 'permanent' })]
    const gone = await failed({ cooldownMs: AN_HOUR })
    await redis.zrem(k.exhausted, lost)
    await redis.zrem(k.permanent, good)
    await redis.zadd(k.exhausted, 1, good)
    await queue.remove(gone)
    await sweep()
    expect(await redis.zrange(k.exhausted, '0', '-1', 'WITHSCORES')).toEqual([
      lost,
      (await fields(lost))['unstuck:cooldownUntil'],
    ])
    expect(await redis.zrange(k.permanent, '0', '-1')).toEqual([good])
  })

  it('leaves an entry whose job is about to be moved', async () => {
    const { redis, add, claim, sweep } = await setup()
    await add()
    const { id } = await claim()
    await redis.zadd(k.exhausted, Date.now() + AN_HOUR, id)
    await sweep()
    expect(await redis.zcard(k.exhausted)).toBe(1)
  })

  it('C7 frees what failed under other settings, for good too, and not what failed under these', async () => {
    const { failed, sweep, delayed, fields, audit } = await setup()
    const old = [await failed({ settings: 'old', cooldownMs: AN_HOUR }), await failed({ settings: 'old', kind: 'permanent' })]
    await failed({ cooldownMs: AN_HOUR })
    await failed({ kind: 'permanent' })
    await failed({ kind: 'cancelled', settings: 'old' })
    expect(await sweep()).toMatchObject({ cursors: ALL, reset: 2, current: false })
    expect(await delayed()).toEqual([...old].sort())
    expect((await fields(old[0] ?? ''))['unstuck:settingsReset']).toMatch(new RegExp(`^${SETTINGS} \\d{13}$`))
    expect(new Set((await audit()).map(({ by }) => by))).toEqual(new Set(['settings']))
  })

  it('C7 frees a job once in a cooldown for the same settings, while an older version fails it again and again', async () => {
    const { redis, failed, sweep, claim, fail } = await setup()
    const id = await failed({ settings: 'old', kind: 'permanent' })
    expect(await sweep()).toMatchObject({ reset: 1 })
    await redis.zadd(k.delayed, 1, id)
    await fail(await claim(), { settings: 'old', kind: 'permanent' })
    expect(await sweep()).toMatchObject({ reset: 0 })
    expect(await sweep({ settings: 'newer' })).toMatchObject({ reset: 1 })
  })

  it('C7 frees it again when that is a cooldown ago', async () => {
    const { redis, failed, sweep } = await setup()
    const id = await failed({ settings: 'old', kind: 'permanent' })
    await redis.hset(k.job(id), 'unstuck:settingsReset', `${SETTINGS} ${Date.now() - ATTEMPTS.cooldownMs - 1000}`)
    expect(await sweep()).toMatchObject({ reset: 1 })
  })

  it('C10 frees no more than the pace allows, and comes back to the rest', async () => {
    const { redis, many, sweep } = await setup()
    await many(12, { settings: 'old', cooldownMs: AN_HOUR })
    const slow = { perSecond: 2, aheadMs: 1000 }
    const page = await sweep(slow)
    expect(page).toMatchObject({ held: true, cursors: { ...ALL, exhausted: '0' } })
    expect(page.reset).toBeLessThanOrEqual(4)
    expect(
      await sweep({ ...slow, aheadMs: AN_HOUR }, { failed: '', exhausted: page.cursors.exhausted, permanent: '' }),
    ).toMatchObject({ held: false, reset: 12 - page.reset })
    expect(await redis.zcard(k.exhausted)).toBe(0)
  })

  it('tells whether the last whole pass was for the same settings', async () => {
    const { redis, sweep } = await setup()
    await redis.set(k.settings, SETTINGS)
    expect(await sweep()).toMatchObject({ current: true })
    expect(await sweep({ settings: 'new' })).toMatchObject({ current: false })
  })

  it('leaves out a set that is through', async () => {
    const stage = await setup()
    await silently(stage, 8)
    await stage.sweep({}, { failed: '', exhausted: '0', permanent: '' })
    expect(await stage.redis.zcard(k.exhausted)).toBe(0)
  })
})

describe('all failed jobs of a queue', () => {
  it('C9 run again, each once, when everybody resets at the same time', async () => {
    const { server, many, worker, order } = await setup()
    const ids = await many(40, { group: 'acme' })
    const ran: string[] = []
    const all = deferred()
    worker(async (job: Job) => {
      if (ran.push(String(job.id)) === ids.length) all.resolve()
    })
    const clients = Array.from({ length: 4 }, () => new Redis(server.url))
    for (const client of clients) onTestFinished(() => client.disconnect())
    await order()
    await Promise.all(
      clients.flatMap((client) => [
        releaseDue(client, k, RULES),
        startRestarts(client, k, OWNER, new Map([['acme', 1]])).then(() => workCampaign(client, k, RULES)),
        sweepPage(client, k, { ...RULES, settings: 'new' }, START, 1000),
      ]),
    )
    await all.promise
    expect(ran.sort()).toEqual(ids.sort())
  })
})

describe('the store of the reconcile loop', () => {
  async function reconciler() {
    const stage = await setup()
    const keys = fleetKeys('{unstuck}')
    const port = redisReconcile({
      ...{ redis: stage.redis, keys, bullPrefix: 'bull', owner: OWNER, leaseMs: 1000, clock: systemClock },
      observer: new Observer({ timeoutMs: 1000, pauseMs: 1000 }),
      rulesOf: () => ({ ...RULES, probeMs: 1000 }),
    })
    return { ...stage, keys, port }
  }

  it('C9 knows the restarts of groups whatever they are called, and no mere deaths', async () => {
    const { redis, keys, port } = await reconciler()
    await redis.hset(keys.restarts, { 'died:acme': 2, 'back:acme': 1, 'died:bolt': 1, 'back:': 3, 'back:a:b': 4 })
    expect(await port.restarts()).toEqual(
      new Map([
        ['acme', 1],
        ['', 3],
        ['a:b', 4],
      ]),
    )
  })

  it('C11 tells the groups whose breaker is open', async () => {
    const { redis, port } = await reconciler()
    expect(await port.openBreakers(QUEUE)).toEqual([])
    await redis.hset(k.breakers, { '': '{}', acme: '{}' })
    expect([...(await port.openBreakers(QUEUE))].sort()).toEqual(['', 'acme'])
  })

  it('C7 remembers what settings the failed jobs were compared with', async () => {
    const { port } = await reconciler()
    expect(await port.sweepPage(QUEUE, START, 100)).toMatchObject({ current: false })
    await port.swept(QUEUE)
    expect(await port.sweepPage(QUEUE, START, 100)).toMatchObject({ current: true })
  })
})

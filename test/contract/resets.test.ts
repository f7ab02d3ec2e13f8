/** Resets of single jobs, on a real Redis with the real Queue and Worker. */
import { FlowProducer, type Job, UnrecoverableError } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { releaseDue, resetJob } from '../../src/recovery/redis-resets.js'
import type { ResetBy } from '../../src/recovery/reset-policy.js'
import { deferred } from '../support/deferred.js'
import { failedJobs, k, OWNER, QUEUE, SETTINGS } from '../support/failed-jobs.js'

async function setup() {
  const stage = await failedJobs()
  const reset = (
    id: string,
    { by = 'hand', reason, perSecond = 10 }: { by?: ResetBy; reason?: string; perSecond?: number } = {},
  ) => resetJob(stage.redis, k, { id, by, actor: 'ann', perSecond, ...(reason === undefined ? {} : { reason }) })
  /** Runs what comes until so many jobs have completed. @returns their ids in order */
  const complete = async (count: number): Promise<string[]> => {
    const ids: string[] = []
    const all = deferred()
    const worker = stage.worker(async () => undefined)
    worker.on('completed', (job: Job) => {
      ids.push(String(job.id))
      if (ids.length === count) all.resolve()
    })
    await all.promise
    return ids
  }
  return { ...stage, reset, complete }
}

const RULES = {
  perSecond: 10,
  aheadMs: 6000,
  actor: OWNER,
  settings: SETTINGS,
  attempts: { max: 8, maxResets: 5, cooldownMs: 60_000, slowRetryMs: 600_000 },
}

describe('a reset of an exhausted job', () => {
  it('C12 puts it back with all attempts, and it runs', async () => {
    const { reset, failed, fields, stateOf, complete, redis, audit } = await setup()
    const id = await failed({ group: 'acme' })
    expect(await fields(id)).toMatchObject({ atm: '8', 'unstuck:kind': 'exhausted' })
    expect(await reset(id, { reason: 'disk was full' })).toEqual({ outcome: 'reset', attemptsBefore: 8, runsInMs: 0 })
    expect(await stateOf(id)).toBe('delayed')
    const after = await fields(id)
    expect(after).toMatchObject({ atm: '0', failedReason: 'boom' })
    const left = ['finishedOn', 'processedOn', 'unstuck:kind', 'unstuck:failedAt', 'unstuck:cooldownUntil', 'unstuck:settings']
    expect(left.filter((name) => name in after)).toEqual([])
    expect(await redis.zcard(k.exhausted)).toBe(0)
    expect(await audit()).toEqual([
      expect.objectContaining({
        ...{ action: 'reset', jobId: id, by: 'hand', actor: 'ann', reason: 'disk was full', group: 'acme', attempts: '8' },
        at: expect.stringMatching(/^\d{13}$/),
      }),
    ])
    expect(await complete(1)).toEqual([id])
  })

  it('wakes a worker that is asleep', async () => {
    const { reset, failed, worker } = await setup()
    const id = await failed()
    const asleep = worker(async () => undefined)
    await asleep.waitUntilReady()
    const done = new Promise((resolve) => asleep.once('completed', (job) => resolve(job.id)))
    await reset(id)
    expect(await done).toBe(id)
  })

  it('C12 asked for ten times at once resets once, and is noted once', async () => {
    const { server, failed, audit, redis, schedule } = await setup()
    const id = await failed()
    const clients = Array.from({ length: 10 }, () => new Redis(server.url))
    for (const client of clients) onTestFinished(() => client.disconnect())
    const answers = await Promise.all(
      clients.map((client) => resetJob(client, k, { id, by: 'hand', actor: 'ann', perSecond: 10 })),
    )
    expect(answers.map(({ outcome }) => outcome).sort()).toEqual([...Array(9).fill('fresh'), 'reset'])
    expect(await audit()).toHaveLength(1)
    expect(await schedule()).toHaveLength(1)
    expect(await redis.zcard(k.failed)).toBe(0)
  })

  it.each(['permanent', 'poison', 'cancelled'] as const)(
    'frees one that is %s, by hand, and what it was suspected of',
    async (kind) => {
      const { reset, failed, redis, fields, stateOf } = await setup()
      const id = await failed({ kind })
      await redis.hset(k.job(id), { stc: 3, rjk: 'nightly', 'unstuck:cancel': 'by bob', 'unstuck:resets': 4 })
      await redis.hset(k.losses, 'nightly', 3)
      expect(await reset(id)).toMatchObject({ outcome: 'reset' })
      expect(await stateOf(id)).toBe('delayed')
      const after = await fields(id)
      expect(after['stc']).toBe('0')
      expect(Object.keys(after)).not.toContain('unstuck:cancel')
      expect(Object.keys(after)).not.toContain('unstuck:resets')
      expect(await redis.hlen(k.losses)).toBe(0)
      expect(await redis.zcard(k.permanent)).toBe(0)
    },
  )

  it('leaves the suspicion to any reset but a hand or settings', async () => {
    const { reset, failed, redis, fields } = await setup()
    const id = await failed()
    await redis.hset(k.job(id), 'stc', 2)
    await reset(id, { by: 'restart' })
    expect((await fields(id))['stc']).toBe('2')
  })

  it('frees one that another program failed', async () => {
    const { reset, add, claim, stateOf } = await setup()
    const { id } = await add()
    const { job, token } = await claim()
    await job.moveToFailed(new UnrecoverableError('theirs'), token, false)
    expect(await reset(String(id))).toMatchObject({ outcome: 'reset', attemptsBefore: 1 })
    expect(await stateOf(String(id))).toBe('delayed')
  })

  it('keeps its priority', async () => {
    const { reset, failed, complete, queue } = await setup()
    const [late, early] = [await failed({ opts: { priority: 9 } }), await failed({ opts: { priority: 1 } })]
    await reset(late, { perSecond: 100_000 })
    await reset(early, { perSecond: 100_000 })
    await queue.add('first', {}, { delay: 1 })
    const order = await complete(3)
    expect(order.indexOf(early)).toBeLessThan(order.indexOf(late))
  })

  it('C10 takes the next free moment of the pace', async () => {
    const { reset, many, schedule } = await setup()
    const ids = await many(4)
    const answers = []
    for (const id of ids) answers.push(await reset(id, { perSecond: 2 }))
    const plan = await schedule()
    expect(plan.map(({ id }) => id)).toEqual(ids)
    const gaps = plan.slice(1).map(({ at }, index) => at - (plan[index]?.at ?? 0))
    for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(399)
    for (const gap of gaps) expect(gap).toBeLessThanOrEqual(601)
    expect(answers.at(-1)).toMatchObject({ runsInMs: expect.toSatisfy((ms: number) => ms > 1000 && ms <= 1800) })
  })

  it('is not held up by a pace that was written before Redis TIME went back', async () => {
    const { reset, failed, redis } = await setup()
    const anHour = 3_600_000
    await redis.set(k.release, `${Date.now() + anHour + 500} ${Date.now() + anHour}`)
    const answer = await reset(await failed())
    expect(answer).toMatchObject({ runsInMs: expect.toSatisfy((ms: number) => ms <= 500) })
  })

  it('refuses a reason that is too long before it changes anything', async () => {
    const { reset, failed, stateOf, audit } = await setup()
    const id = await failed()
    await expect(reset(id, { reason: 'x'.repeat(501) })).rejects.toMatchObject({ code: 'INPUT_INVALID' })
    expect(await stateOf(id)).toBe('failed')
    expect(await audit()).toEqual([])
  })
})

describe('a reset of a job that waits', () => {
  it('brings one that backs off to the next free moment', async () => {
    const { reset, add, claim, redis, fields, complete } = await setup()
    const { id } = await add()
    const { job, token } = await claim()
    await job.moveToDelayed(Date.now() + 3_600_000, token)
    await redis.hset(k.job(String(id)), 'atm', 3)
    expect(await reset(String(id))).toEqual({ outcome: 'reset', attemptsBefore: 3, runsInMs: 0 })
    expect((await fields(String(id)))['atm']).toBe('0')
    expect(await complete(1)).toEqual([id])
  })

  it('leaves one where it is that comes sooner than the pace allows', async () => {
    const { reset, add, claim, redis, schedule, failed } = await setup()
    await reset(await failed(), { perSecond: 0.01 })
    const { id } = await add()
    const { job, token } = await claim()
    const due = Date.now() + 5000
    await job.moveToDelayed(due, token)
    await redis.hset(k.job(String(id)), 'atm', 3)
    await reset(String(id), { perSecond: 0.01 })
    const plan = await schedule()
    expect(Math.floor(plan.find((one) => one.id === id)?.at ?? 0)).toBe(due)
  })

  it.each([
    ['in line', {}],
    ['in line by priority', { priority: 3 }],
  ])('sets one back that stands %s, without losing its place', async (_, opts) => {
    const { reset, add, redis, queue, fields } = await setup()
    const { id } = await add({ opts })
    await add({ opts })
    await redis.hset(k.job(String(id)), { atm: 7, defa: 'supervisor b was lost' })
    await queue.pause()
    expect(await reset(String(id))).toEqual({ outcome: 'reset', attemptsBefore: 7, runsInMs: 0 })
    const after = await fields(String(id))
    expect(after['atm']).toBe('0')
    expect(Object.keys(after)).not.toContain('defa')
    await queue.resume()
    expect((await queue.getJobs(['waiting', 'prioritized'], 0, 0, true)).map((job) => job.id)).toEqual([id])
  })

  it('C12 finds nothing to do when it has used no attempt', async () => {
    const { reset, add, audit } = await setup()
    const { id } = await add()
    expect(await reset(String(id))).toEqual({ outcome: 'fresh' })
    expect(await audit()).toEqual([])
  })
})

describe('a reset', () => {
  it('C12 is refused while the job runs', async () => {
    const { reset, add, claim, redis, audit } = await setup()
    await add()
    const { id } = await claim()
    await redis.hset(k.job(id), 'atm', 4)
    expect(await reset(id)).toEqual({ outcome: 'running' })
    expect(await redis.hget(k.job(id), 'atm')).toBe('4')
    expect(await audit()).toEqual([])
  })

  it('is refused for a completed job', async () => {
    const { reset, add, claim } = await setup()
    await add()
    const { job, id, token } = await claim()
    await job.moveToCompleted('fine', token, false)
    expect(await reset(id)).toEqual({ outcome: 'completed' })
  })

  it.each(['nobody', 'wait', 'meta', 'events', 'id', 'unstuck:exhausted', '', '💥', 'a:b:lock'])(
    'knows no job %j',
    async (id) => {
      const { reset, failed, add } = await setup()
      await failed()
      await add()
      expect(await reset(id)).toEqual({ outcome: 'unknown' })
    },
  )

  it('of an id that is used again finds the new job clean', async () => {
    const { reset, failed, queue, add, redis, stateOf } = await setup()
    const id = await failed({ id: 'order-1' })
    await (await queue.getJob(id))?.remove()
    expect(await redis.zcard(k.exhausted)).toBe(1)
    await add({ id })
    expect(await reset(id)).toEqual({ outcome: 'fresh' })
    expect(await releaseDue(redis, k, RULES)).toEqual({ reset: 0, more: false })
    expect(await redis.zcard(k.exhausted)).toBe(0)
    expect(await stateOf(id)).toBe('waiting')
  })
})

describe('a reset in a flow', () => {
  async function flow(opts: Record<string, boolean>) {
    const stage = await setup()
    const producer = new FlowProducer({ connection: { url: stage.server.url } })
    onTestFinished(() => producer.close())
    await producer.add({
      ...{ name: 'parent', queueName: QUEUE, data: {}, opts: { jobId: 'parent', attempts: 8 } },
      children: [{ name: 'child', queueName: QUEUE, data: {}, opts: { jobId: 'child', attempts: 8, ...opts } }],
    })
    await stage.fail(await stage.claim())
    return { ...stage, dependencies: () => stage.redis.smembers(`${k.job('parent')}:dependencies`) }
  }

  it('of a parent that waits for its children is refused', async () => {
    const { reset } = await flow({})
    expect(await reset('parent')).toEqual({ outcome: 'waiting_for_children' })
  })

  it('of a child that failed lets its parent run after it', async () => {
    const { reset, complete } = await flow({})
    await reset('child')
    expect(await complete(2)).toEqual(['child', 'parent'])
  })

  it('of a child whose failure its parent ignored makes the parent wait for it again', async () => {
    const { reset, dependencies, redis } = await flow({ ignoreDependencyOnFailure: true })
    expect(await dependencies()).toEqual([])
    await reset('child')
    expect(await dependencies()).toEqual([k.job('child')])
    expect(await redis.hlen(`${k.job('parent')}:failed`)).toBe(0)
  })

  it('of a child and of the parent that it took down completes both, in order', async () => {
    const { reset, claim, fail, complete, stateOf, dependencies, redis } = await flow({ failParentOnFailure: true })
    await fail(await claim())
    expect(await stateOf('parent')).toBe('failed')
    await reset('child')
    expect(await dependencies()).toEqual([k.job('child')])
    expect(await redis.zcard(`${k.job('parent')}:unsuccessful`)).toBe(0)
    expect(await reset('parent')).toMatchObject({ outcome: 'reset' })
    expect(await stateOf('parent')).toBe('waiting-children')
    expect(await complete(2)).toEqual(['child', 'parent'])
  })
})

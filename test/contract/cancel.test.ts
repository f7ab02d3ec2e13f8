/** Cancelling, resetting, pausing and draining on a real Redis with BullMQ's real Queue, FlowProducer and Worker. */
import { FlowProducer, type Job, Queue, QueueEvents, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { cancelJob } from '../../src/dispatch/bullmq-cancel.js'
import { QueueHandles } from '../../src/dispatch/bullmq-handles.js'
import { REAP } from '../../src/dispatch/bullmq-scripts.js'
import { readJobPlace } from '../../src/dispatch/redis-job-place.js'
import { fleetKeys, queueKeys } from '../../src/platform/redis-keys.js'
import { Control } from '../../src/recovery/bullmq-control.js'
import { deferred } from '../support/deferred.js'
import { startTestRedis } from '../support/redis.js'

const QUEUE = 'agents'
const OWNER = 'alpha#0123456789ab'
const k = queueKeys('bull', QUEUE)
const f = fleetKeys('{unstuck}')

async function setup() {
  const server = await startTestRedis()
  onTestFinished(() => server.stop())
  const connection = { url: server.url, maxRetriesPerRequest: null }
  const redis = new Redis(server.url)
  onTestFinished(() => redis.disconnect())
  const queue = new Queue(QUEUE, { connection })
  onTestFinished(() => queue.close())
  await queue.waitUntilReady()
  const control = () => {
    const own = new Redis(server.url, { maxRetriesPerRequest: null })
    const queues = new QueueHandles({ connection: own, bullPrefix: 'bull', onError: () => undefined })
    onTestFinished(async () => {
      await queues.close()
      own.disconnect()
    })
    const scope = { prefix: '{unstuck}', bullPrefix: 'bull', configured: [] }
    return new Control({ redis: own, queues, perSecondOf: () => 10, ...scope })
  }
  const worker = (run: (job: Job) => Promise<unknown>, options: { name?: string; autorun?: boolean; queue?: string } = {}) => {
    const { name = OWNER, autorun = true } = options
    const made = new Worker(options.queue ?? QUEUE, run, { connection, name, autorun, skipStalledCheck: true, drainDelay: 1 })
    made.on('error', () => undefined)
    onTestFinished(() => made.close(true))
    return made
  }
  const claim = async (name: string) => {
    const job = (await worker(async () => undefined, { name, autorun: false }).getNextJob('token')) as Job | undefined
    if (!job) throw new Error('nothing to claim')
    return job
  }
  const audit = async () => (await redis.xrange(k.audit, '-', '+')).map(([, fields]) => pairs(fields))
  const place = (id: string) => readJobPlace(redis, 'bull', QUEUE, id)
  return { server, redis, connection, queue, control, worker, claim, audit, place }
}

const pairs = (flat: string[]): Record<string, string> =>
  Object.fromEntries(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? '']] : [])))

/** Everything in Redis, to see that nothing has changed. */
async function everything(redis: Redis) {
  const keys = (await redis.keys('*')).sort()
  return Promise.all(keys.map(async (key) => [key, (await redis.dumpBuffer(key))?.toString('base64')]))
}

/** A job that used up its attempts, as the attempts' ledger leaves it. */
async function exhaust({ queue, worker, redis }: Awaited<ReturnType<typeof setup>>, id: string, kind = 'exhausted') {
  await queue.add('x', {}, { jobId: id, attempts: 1 })
  const failed = deferred<undefined>()
  const taker = worker(async () => Promise.reject(new Error('no network')))
  taker.once('failed', () => failed.resolve(undefined))
  await failed.promise
  await taker.close()
  const until = Date.now() + 60_000
  await redis.hset(k.job(id), 'unstuck:kind', kind, 'unstuck:failedAt', Date.now(), 'unstuck:cooldownUntil', until)
  await redis.zadd(kind === 'exhausted' ? k.exhausted : k.permanent, until, id)
}

/** As though a supervisor beat. */
async function beating(redis: Redis, incarnation = '0123456789ab') {
  const now = Date.now()
  await redis.hset(f.beat('alpha'), { incarnation, generation: 1, at: now, deadAt: now + 60_000 })
  await redis.zadd(f.due, now + 60_000, 'alpha')
}

describe('cancel', () => {
  it.each([
    ['waiting', {}],
    ['prioritized', { priority: 3 }],
    ['delayed', { delay: 60_000 }],
  ])('a %s job ends as BullMQ ends a failed one, with no attempt used, and says who and why', async (_, options) => {
    const stage = await setup()
    const { queue, control, redis, audit, place, connection } = stage
    const events = new QueueEvents(QUEUE, { connection })
    onTestFinished(() => events.close())
    await events.waitUntilReady()
    const told = new Promise<{ jobId: string; failedReason: string }>((done) => events.once('failed', done))
    await queue.add('x', {}, { jobId: 'j', ...options, group: 'g', unstuck: { group: 'g' } } as never)

    expect(await control().cancel(QUEUE, 'j', { actor: 'cli:ada', reason: 'wrong repository' })).toEqual({ state: 'cancelled' })
    expect(await told).toMatchObject({ jobId: 'j', failedReason: 'cancelled by cli:ada: wrong repository' })
    expect(await place('j')).toMatchObject({ state: 'failed', kind: 'cancelled', attemptsMade: 0, group: 'g' })
    const fields = await redis.hgetall(k.job('j'))
    expect(fields).toMatchObject({ 'unstuck:group': 'g', 'unstuck:failedAt': expect.stringMatching(/^\d{13}$/) })
    expect(fields).not.toHaveProperty('unstuck:cancel')
    expect(await redis.exists(k.lock('j'), k.active, k.wait, k.prioritized, k.delayed)).toBe(0)
    expect(await audit()).toEqual([
      expect.objectContaining({ action: 'cancel', jobId: 'j', actor: 'cli:ada', reason: 'wrong repository', attempts: '0' }),
    ])
  })

  it('C1: a job that backs off keeps the number of attempts that it has used', async () => {
    const { queue, control, redis, place } = await setup()
    await queue.add('x', {}, { jobId: 'j', delay: 60_000, attempts: 8 })
    await redis.hset(k.job('j'), 'atm', 3)
    await control().cancel(QUEUE, 'j')
    expect(await place('j')).toMatchObject({ state: 'failed', kind: 'cancelled', attemptsMade: 3 })
  })

  it('an exhausted job comes back no more', async () => {
    const stage = await setup()
    await exhaust(stage, 'j')
    expect(await stage.control().cancel(QUEUE, 'j', { actor: 'ada' })).toEqual({ state: 'cancelled' })
    expect(await stage.redis.zcard(k.exhausted)).toBe(0)
    expect(await stage.place('j')).toMatchObject({ kind: 'cancelled', attemptsMade: 1, lastError: 'cancelled by ada' })
    expect(await stage.audit()).toHaveLength(1)
  })

  it('a running job is marked once, and its supervisor told under the fence of its claim', async () => {
    const { queue, control, claim, redis, audit } = await setup()
    await queue.add('x', {}, { jobId: 'j' })
    await claim(OWNER)
    await beating(redis)
    const one = control()
    expect(await one.cancel(QUEUE, 'j', { reason: 'a' })).toEqual({ state: 'stopping', supervisor: 'alpha' })
    expect(await one.cancel(QUEUE, 'j', { reason: 'b' })).toEqual({ state: 'stopping', supervisor: 'alpha' })
    expect(await redis.hget(k.job('j'), 'unstuck:cancel')).toBe('cancelled by library: a')
    const orders = (await redis.lrange(f.orders('alpha'), 0, -1)).map((order) => JSON.parse(order) as unknown)
    const order = { kind: 'cancel', queue: QUEUE, jobId: 'j', fence: 1, incarnation: '0123456789ab' }
    expect(orders).toEqual([order, order])
    expect(await audit()).toHaveLength(1)
    expect(await redis.lrange(k.active, 0, -1)).toEqual(['j'])
  })

  it.each([
    ['is gone', undefined],
    ['came back as another incarnation', 'ffffffffffff'],
  ])('a running job whose supervisor %s is only marked', async (_, incarnation) => {
    const { queue, control, claim, redis } = await setup()
    await queue.add('x', {}, { jobId: 'j' })
    await claim(OWNER)
    if (incarnation !== undefined) await beating(redis, incarnation)
    expect(await control().cancel(QUEUE, 'j')).toEqual({ state: 'marked' })
    expect(await redis.hget(k.job('j'), 'unstuck:cancel')).toBe('cancelled by library')
    expect(await redis.exists(f.orders('alpha'))).toBe(0)
  })

  it('refuses what it cannot cancel, and changes nothing', async () => {
    const stage = await setup()
    const { queue, control, worker, claim, redis, connection } = stage
    await exhaust(stage, 'broken', 'permanent')
    await exhaust(stage, 'poison', 'poison')
    await exhaust(stage, 'gone', 'cancelled')
    await queue.add('x', {}, { jobId: 'done' })
    const completed = deferred<undefined>()
    const taker = worker(async () => 1)
    taker.once('completed', () => completed.resolve(undefined))
    await completed.promise
    await taker.close()
    await queue.add('x', {}, { jobId: 'theirs' })
    await claim('somebody else')
    const flow = new FlowProducer({ connection })
    onTestFinished(() => flow.close())
    const child = { name: 'c', queueName: 'other', opts: { jobId: 'child', delay: 60_000 } }
    await flow.add({ name: 'p', queueName: QUEUE, opts: { jobId: 'parent' }, children: [child] })
    const next = await queue.upsertJobScheduler('nightly', { every: 3_600_000 })
    const ours = control()
    await ours.checkQueue(QUEUE)

    const before = await everything(redis)
    const codes: [string, string][] = []
    const ids = ['broken', 'poison', 'gone', 'done', 'theirs', 'parent', String(next?.id), 'nobody', 'wait', 'meta']
    for (const id of [...ids, 'unstuck:exhausted', 'theirs:lock', '', 'x'.repeat(1_000_000), '\u0000\n\u001b[2J']) {
      const refused = (await ours.cancel(QUEUE, id).catch((error: unknown) => error)) as { code: string; message: string }
      codes.push([id.slice(0, 20), refused.code])
      expect(refused.message).toMatch(/^job:agents\/[^\n]{0,1000}: .*; /)
    }
    expect(codes.map(([, code]) => code)).toEqual([
      ...[
        'JOB_FAILED',
        'JOB_FAILED',
        'JOB_CANCELLED',
        'JOB_COMPLETED',
        'JOB_FOREIGN',
        'JOB_WAITS_FOR_CHILDREN',
        'JOB_SCHEDULED',
      ],
      ...Array.from({ length: 8 }, () => 'JOB_UNKNOWN'),
    ])
    await expect(ours.cancel(QUEUE, 'child')).rejects.toThrow(/there is no such job/)
    await expect(ours.cancel(QUEUE, 'broken', { reason: 'x'.repeat(10_000_000) })).rejects.toMatchObject({
      code: 'INPUT_INVALID',
    })
    await expect(ours.cancel('agent', 'j')).rejects.toMatchObject({ code: 'QUEUE_UNKNOWN' })
    expect(await everything(redis)).toEqual(before)
  })

  it('C12: asked by many in the same moment, one does it and the others hear that it is done', async () => {
    const { queue, control, audit, redis } = await setup()
    const controls = Array.from({ length: 8 }, control)
    for (let round = 0; round < 20; round += 1) {
      await queue.add('x', {}, { jobId: `j${round}` })
      const results = await Promise.allSettled(controls.map((one) => one.cancel(QUEUE, `j${round}`)))
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      const refused = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as { code: string }] : []))
      expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(['JOB_CANCELLED']))
    }
    expect(await audit()).toHaveLength(20)
    expect(await redis.zcard(k.failed)).toBe(20)
  })

  it('against a worker that takes the job in the same moment, the job ends once, one way or the other', async () => {
    const { queue, control, worker, redis, place } = await setup()
    const ran: string[] = []
    const one = control()
    worker(async (job) => ran.push(String(job.id)))
    for (let round = 0; round < 30; round += 1) {
      const id = `j${round}`
      const added = queue.add('x', {}, { jobId: id })
      const answer = await added.then(() => one.cancel(QUEUE, id)).catch((error: { code: string }) => error)
      if ('state' in answer && answer.state === 'cancelled') {
        expect(ran).not.toContain(id)
        expect(await place(id)).toMatchObject({ state: 'failed', kind: 'cancelled' })
      }
    }
    expect(await redis.exists(k.wait)).toBe(0)
  })

  it('ends the parent of a child that must not fail, and lets one wait no longer whose child is ignored', async () => {
    const { control, connection, redis, place } = await setup()
    const flow = new FlowProducer({ connection })
    onTestFinished(() => flow.close())
    for (const [id, option] of [
      ['strict', { failParentOnFailure: true }],
      ['lax', { ignoreDependencyOnFailure: true }],
    ] as const) {
      const child = { name: 'c', queueName: QUEUE, opts: { jobId: `${id}-child`, ...option } }
      await flow.add({ name: 'p', queueName: QUEUE, opts: { jobId: id }, children: [child] })
      await control().cancel(QUEUE, `${id}-child`)
    }
    expect(await place('lax')).toMatchObject({ state: 'waiting' })
    // BullMQ fails such a parent when a worker takes it.
    expect(await redis.hget(k.job('strict'), 'defa')).toContain('strict-child failed')
    expect(await place('strict')).toMatchObject({ state: 'waiting' })
  })

  it('is taken up by the next claim when its author died between the two steps, and has used no attempt', async () => {
    const { queue, worker, redis, place } = await setup()
    await queue.add('x', {}, { jobId: 'j' })
    // A queue without a connection: BullMQ's verb fails where a death would have cut it off.
    const died = cancelJob(redis, {} as Queue, k, { id: 'j', actor: 'ada' })
    await expect(died).rejects.toThrow()
    expect(await place('j')).toMatchObject({ state: 'active', attemptsMade: 0 })
    const reaped = await REAP.run(redis, [k.root], ['j', '', '1', 'nobody runs it', 8, 'any', 0])
    expect(reaped).toBe(1)
    const ran: string[] = []
    const failed = deferred()
    worker(async (job) => ran.push(String(job.id))).once('failed', () => failed.resolve())
    await failed.promise
    expect(ran).toEqual([])
    expect(await place('j')).toMatchObject({ state: 'failed', lastError: 'cancelled by ada', attemptsMade: 0 })
  })

  it('wakes who found the queue full for the moment of it', async () => {
    const { queue, control, redis } = await setup()
    await queue.setGlobalConcurrency(1)
    await queue.add('x', {}, { jobId: 'j' })
    await queue.add('x', {}, { jobId: 'next' })
    await redis.del(k.marker)
    await control().cancel(QUEUE, 'j')
    expect(await redis.zscore(k.marker, '0')).toBe('0')
  })

  it('a dry run says the same and changes nothing', async () => {
    const stage = await setup()
    const { queue, control, claim, redis } = stage
    await exhaust(stage, 'tired')
    await queue.add('x', {}, { jobId: 'running' })
    await claim(OWNER)
    await queue.add('x', {}, { jobId: 'waiting' })
    await beating(redis)
    const one = control()
    const before = await everything(redis)
    expect(await one.cancel(QUEUE, 'tired', { dryRun: true })).toEqual({ state: 'cancelled' })
    expect(await one.cancel(QUEUE, 'waiting', { dryRun: true })).toEqual({ state: 'cancelled' })
    expect(await one.cancel(QUEUE, 'running', { dryRun: true })).toEqual({ state: 'stopping', supervisor: 'alpha' })
    expect(await one.reset(QUEUE, 'tired', { dryRun: true })).toEqual({ attemptsBefore: 1 })
    expect(await one.resetAll(QUEUE, { dryRun: true })).toEqual({ jobs: 1, perSecond: 10 })
    expect(await one.pause(QUEUE, { dryRun: true })).toBe(true)
    expect(await one.drain('alpha', { dryRun: true })).toBe(0)
    await expect(one.reset(QUEUE, 'running', { dryRun: true })).rejects.toMatchObject({ code: 'JOB_RUNNING' })
    await expect(one.reset(QUEUE, 'waiting', { dryRun: true })).rejects.toMatchObject({ code: 'JOB_FRESH' })
    expect(await everything(redis)).toEqual(before)
  })
})

describe('the place of a job', () => {
  it('knows a parked job from one that backs off, and its breaker while that is open', async () => {
    const { queue, redis, place } = await setup()
    await queue.add('x', {}, { jobId: 'j', delay: 60_000, attempts: 5, unstuck: { group: 'g' } } as never)
    await redis.hset(k.breakers, 'g', JSON.stringify({ openedAt: 1, nextProbeAt: 2, failures: 20 }))
    expect(await place('j')).not.toHaveProperty('parkedBy')
    await redis.hset(k.job('j'), 'ats', 4, 'unstuck:parked', 4)
    const parkedBy = { openedAt: 1, nextProbeAt: 2, failures: 20 }
    expect(await place('j')).toMatchObject({ state: 'delayed', parkedBy, group: 'g', attemptsMax: 5, fence: 4, name: 'x' })
    await redis.hdel(k.breakers, 'g')
    expect(await place('j')).not.toHaveProperty('parkedBy')
  })

  it('believes what is written of a failure only while the job is in the failed set', async () => {
    const stage = await setup()
    await exhaust(stage, 'j')
    const seen = await stage.place('j')
    expect(seen).toMatchObject({ state: 'failed', kind: 'exhausted', attemptsMade: 1, attemptsMax: 1, lastError: 'no network' })
    expect((seen.cooldownUntil ?? 0) - (seen.failedAt ?? 0)).toBeGreaterThan(59_000)
    await stage.queue.retryJobs()
    const retried = await stage.place('j')
    expect(retried.state).toBe('waiting')
    expect(retried).not.toHaveProperty('kind')
    expect(retried).not.toHaveProperty('cooldownUntil')
  })

  it('takes nothing for a job that is none', async () => {
    const { queue, place } = await setup()
    await queue.add('x', {}, { jobId: 'j' })
    for (const id of ['meta', 'wait', 'events', '', 'unstuck:audit', 'j:lock', 'nobody'])
      expect((await place(id)).state, id).toBe('not_found')
  })
})

describe('the other orders', () => {
  it('C12: a reset frees a cancelled job, and one asked for by many in the same moment is done once', async () => {
    const stage = await setup()
    const { queue, control, audit, place } = stage
    await queue.add('x', {}, { jobId: 'j' })
    const controls = Array.from({ length: 4 }, control)
    await controls[0]?.cancel(QUEUE, 'j')
    const results = await Promise.allSettled(controls.map((one) => one.reset(QUEUE, 'j', { actor: 'ada' })))
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    expect(await place('j')).toMatchObject({ state: 'delayed', attemptsMade: 0 })
    expect((await audit()).map(({ action }) => action)).toEqual(['cancel', 'reset'])
  })

  it('a job that is in another queue is named there', async () => {
    const { queue, control, redis, connection } = await setup()
    await redis.sadd(f.queues, QUEUE, 'mail')
    const mail = new Queue('mail', { connection })
    onTestFinished(() => mail.close())
    await mail.add('x', {}, { jobId: 'j' })
    await expect(control().reset(QUEUE, 'j')).rejects.toThrow(
      'job:agents/j: there is no such job in the queue; queue mail has one of this id; ask for that',
    )
    await queue.close()
  })

  it('pause and resume are told from what was so before, and leave who and why', async () => {
    const { queue, control, audit } = await setup()
    const one = control()
    expect(await one.resume(QUEUE)).toBe(false)
    expect(await one.pause(QUEUE, { actor: 'ada', reason: 'deploy' })).toBe(true)
    expect(await one.pause(QUEUE)).toBe(false)
    expect(await queue.isPaused()).toBe(true)
    expect(await one.resume(QUEUE)).toBe(true)
    expect(await queue.isPaused()).toBe(false)
    expect((await audit()).map(({ action, actor, reason }) => [action, actor, reason])).toEqual([
      ['pause', 'ada', 'deploy'],
      ['resume', 'library', ''],
    ])
  })

  it('a queue that Redis has never seen is named with those that are known, and is not made by asking', async () => {
    const { control, redis } = await setup()
    await redis.sadd(f.queues, QUEUE, 'mail')
    const one = control()
    await expect(one.pause('agnets')).rejects.toThrow(
      'queue agnets: Redis has never seen it (known: agents, mail); correct the name, or add a job first',
    )
    expect(await redis.exists(queueKeys('bull', 'agnets').meta)).toBe(0)
  })

  it('drains the incarnation that beats, and refuses one that is not there', async () => {
    const { control, redis } = await setup()
    const one = control()
    await expect(one.drain('alpha')).rejects.toMatchObject({ code: 'SUPERVISOR_UNKNOWN' })
    await beating(redis)
    await expect(one.drain('alhpa')).rejects.toThrow(/\(running: alpha\)/)
    expect(await one.drain('alpha')).toBe(0)
    expect(JSON.parse((await redis.lpop(f.orders('alpha'))) ?? '')).toEqual({ kind: 'drain', incarnation: '0123456789ab' })
    await redis.hset(f.beat('alpha'), 'deadAt', Date.now() - 1)
    await expect(one.drain('alpha')).rejects.toMatchObject({ code: 'SUPERVISOR_GONE' })
  })
})

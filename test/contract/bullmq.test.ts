/**
 * What we rely on in BullMQ's insides: the layout of its keys, its reply codes, and the calls that its worker makes.
 * Run on a real Redis with the real Queue and Worker.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { type Job, Queue, type RedisQueueBackend, Worker, type WorkerOptions } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { witnessedBackendFactory } from '../../src/dispatch/bullmq-backend.js'
import { REAP, RETAKE_LOCK, WRITTEN_FOR_BULLMQ } from '../../src/dispatch/bullmq-scripts.js'
import { FetchProgress } from '../../src/dispatch/fetch-progress.js'
import { Attempts } from '../../src/dispatch/run-attempt.js'
import { BeatBoard } from '../../src/heartbeat/beat-board.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { systemClock } from '../../src/platform/system-clock.js'
import { deferred } from '../support/deferred.js'
import { until } from '../support/processes.js'
import { startProxy } from '../support/proxy.js'
import { startTestRedis } from '../support/redis.js'

const QUEUE = 'mail'
const k = queueKeys('bull', QUEUE)
const OWNER = 'a#0123456789ab'

async function setup() {
  const server = await startTestRedis()
  onTestFinished(() => server.stop())
  const redis = new Redis(server.url)
  onTestFinished(() => redis.disconnect())
  const queue = new Queue(QUEUE, { connection: { url: server.url } })
  queue.on('error', () => undefined)
  onTestFinished(() => queue.close())
  const worker = (run: (job: Job, token?: string) => Promise<unknown>, options: Partial<WorkerOptions> = {}) => {
    const made = new Worker(QUEUE, run, {
      connection: { url: server.url, maxRetriesPerRequest: null },
      name: OWNER,
      skipStalledCheck: true,
      drainDelay: 1,
      ...options,
    })
    made.on('error', () => undefined)
    onTestFinished(() => made.close(true))
    return made
  }
  return { server, redis, queue, worker }
}

type Stage = Awaited<ReturnType<typeof setup>>

/** Claims the next job as a worker would, and lets nothing run: what a killed worker leaves behind. */
async function claim({ worker }: Stage, token = 'token-1'): Promise<Job> {
  const taker = worker(async () => undefined, { autorun: false })
  const job = (await taker.getNextJob(token)) as Job | undefined
  if (!job) throw new Error('nothing to claim')
  return job
}

const fieldsOf = (redis: Redis, id: string) => redis.hgetall(k.job(id))

/** Everything in the queue, to see that nothing has changed. */
async function snapshot(redis: Redis, id: string) {
  const [job, lock, active, wait, prioritized, marker, events] = await Promise.all([
    fieldsOf(redis, id),
    redis.get(k.lock(id)),
    redis.lrange(k.active, 0, -1),
    redis.lrange(k.wait, 0, -1),
    redis.zrange(k.prioritized, '0', '-1', 'WITHSCORES'),
    redis.zrange(k.marker, '0', '-1'),
    redis.xlen(k.events),
  ])
  return { job, lock, active, wait, prioritized, marker, events }
}

describe('the installed BullMQ', () => {
  it('is the one that our Lua was written for', () => {
    // Its package.json is not exported.
    const main = createRequire(import.meta.url).resolve('bullmq')
    const root = main.slice(0, main.lastIndexOf(join('node_modules', 'bullmq')))
    const { version } = JSON.parse(readFileSync(join(root, 'node_modules', 'bullmq', 'package.json'), 'utf8')) as {
      version: string
    }
    expect(dirname(main)).toContain('bullmq')
    expect(
      version,
      `BullMQ ${version} is installed and src/dispatch/bullmq-scripts.ts was written for ${WRITTEN_FOR_BULLMQ}. Read again in ` +
        'its dist/esm/commands: moveToActive, moveToFinished, moveToDelayed, retryJob, extendLocks, moveStalledJobsToWait ' +
        '(keys, fields atm ats stc pb defa, reply codes), in classes/worker.js: processJob, handleFailed, retryIfFailed; in ' +
        'classes/queue-keys.js: the names that job-input.ts refuses. Then run this file, and set WRITTEN_FOR_BULLMQ',
    ).toBe(WRITTEN_FOR_BULLMQ)
  })

  it('writes the fields at a claim that tell us the owner and the fence', async () => {
    const stage = await setup()
    await stage.queue.add('m', {})
    const job = await claim(stage)
    expect(await fieldsOf(stage.redis, String(job.id))).toMatchObject({ pb: OWNER, ats: '1' })
    expect(await stage.redis.get(k.lock(String(job.id)))).toBe('token-1')
    expect(await stage.redis.lrange(k.active, 0, -1)).toEqual([job.id])
  })
})

describe('taking an expired lock again', () => {
  const LOCK_MS = 30_000

  async function claimed() {
    const stage = await setup()
    await stage.queue.add('m', {})
    const job = await claim(stage)
    const id = String(job.id)
    const retake = (token = 'token-1', fence = 1) =>
      RETAKE_LOCK.run(stage.redis, [k.lock(id), k.active, k.job(id), k.stalled], [id, token, LOCK_MS, fence])
    return { ...stage, job, id, retake }
  }

  it('works when it expired and the job is still ours, which BullMQ then lets us finish', async () => {
    const { redis, id, retake, job } = await claimed()
    await redis.del(k.lock(id))
    await redis.sadd(k.stalled, id)
    expect(await retake()).toBe(1)
    expect(await redis.get(k.lock(id))).toBe('token-1')
    expect(await redis.pttl(k.lock(id))).toBeGreaterThan(LOCK_MS - 5000)
    expect(await redis.sismember(k.stalled, id)).toBe(0)
    await job.moveToCompleted('fine', 'token-1', false)
    expect(await redis.zscore(k.completed, id)).not.toBeNull()
  })

  it('renews a lock that is ours all the time', async () => {
    const { redis, id, retake } = await claimed()
    await redis.pexpire(k.lock(id), 1000)
    expect(await retake()).toBe(1)
    expect(await redis.pttl(k.lock(id))).toBeGreaterThan(1000)
  })

  it('is refused when another holds the lock', async () => {
    const { redis, id, retake } = await claimed()
    await redis.set(k.lock(id), 'token-2', 'PX', 500)
    expect(await retake()).toBe(0)
    expect(await redis.get(k.lock(id))).toBe('token-2')
    expect(await redis.pttl(k.lock(id))).toBeLessThanOrEqual(500)
  })

  it('is refused when the job was claimed again since', async () => {
    const { redis, id, retake } = await claimed()
    await redis.del(k.lock(id))
    await redis.hincrby(k.job(id), 'ats', 1)
    expect(await retake()).toBe(0)
    expect(await redis.exists(k.lock(id))).toBe(0)
  })

  it('is refused when the job is not active any more', async () => {
    const { redis, id, job, retake } = await claimed()
    await job.moveToDelayed(Date.now() + 60_000, 'token-1')
    expect(await retake()).toBe(0)
    expect(await redis.exists(k.lock(id))).toBe(0)
  })

  it('says that the job is finished when only the reply was lost', async () => {
    const { redis, id, job, retake } = await claimed()
    await job.moveToCompleted('fine', 'token-1', false)
    expect(await retake()).toBe(2)
    expect(await redis.exists(k.lock(id))).toBe(0)
  })
})

describe('taking an orphan back', () => {
  const REASON = 'supervisor a was lost while it ran this job'

  async function orphaned(opts: object = {}) {
    const stage = await setup()
    const { redis, queue } = stage
    await queue.add('m', { n: 1 }, { attempts: 3, backoff: 1, ...opts })
    const job = await claim(stage)
    const id = String(job.id)
    const reap = (owner = OWNER, fence = '1', locks: 'any' | 'none' = 'any') =>
      REAP.run(redis, [k.root], [id, owner, fence, REASON, 8, locks, 1])
    return { ...stage, id, reap }
  }

  it('puts it at the head of the line, charged, with its reason, and BullMQ then runs it', async () => {
    const { redis, queue, id, reap, worker } = await orphaned()
    const { id: behind } = await queue.add('m', { n: 2 })
    await redis.sadd(k.stalled, id)
    const events = await redis.xlen(k.events)
    expect(await reap()).toBe(1)
    expect(await fieldsOf(redis, id)).toMatchObject({ atm: '1', stc: '1', ats: '1', failedReason: REASON })
    expect(await redis.lrange(k.wait, 0, -1)).toEqual([behind, id])
    expect(await redis.llen(k.active)).toBe(0)
    expect(await redis.exists(k.lock(id))).toBe(0)
    expect(await redis.sismember(k.stalled, id)).toBe(0)
    expect(await redis.zrange(k.marker, '0', '-1')).toEqual(['0'])
    const [last] = await redis.xrevrange(k.events, '+', '-', 'COUNT', 1)
    expect(last?.[1]).toEqual(['event', 'waiting', 'jobId', id, 'prev', 'active'])
    expect(await redis.xlen(k.events)).toBe(events + 1)

    const order: unknown[] = []
    worker(async ({ data, attemptsMade }) => order.push([data.n, attemptsMade]))
    await until(
      () => redis.zcard(k.completed),
      (count) => count === 2,
    )
    expect(order).toEqual([
      [1, 1],
      [2, 0],
    ])
    expect(await fieldsOf(redis, id)).toMatchObject({ atm: '2', ats: '2' })
  })

  it('keeps its priority, before the others of the same', async () => {
    const { redis, queue, id, reap, worker } = await orphaned({ priority: 5 })
    await queue.add('m', { n: 'later' }, { priority: 5 })
    await queue.add('m', { n: 'first' }, { priority: 4 })
    expect(await reap()).toBe(1)
    expect(await redis.llen(k.wait)).toBe(0)
    const order: unknown[] = []
    worker(async ({ data }) => order.push(data.n))
    await until(
      () => redis.zcard(k.completed),
      (count) => count === 3,
    )
    expect(order).toEqual(['first', 1, 'later'])
    expect(await fieldsOf(redis, id)).toMatchObject({ priority: '5' })
  })

  it('wakes a worker that blocks', async () => {
    const { redis, reap, worker } = await orphaned()
    const ran = deferred<number>()
    const since = performance.now()
    const idle = worker(async () => ran.resolve(performance.now() - since), { drainDelay: 10 })
    await idle.waitUntilReady()
    await until(
      async () => String(await redis.client('LIST')),
      (clients) => clients.includes('cmd=bzpopmin'),
    )
    await reap()
    expect(await ran.promise).toBeLessThan(9000)
  })

  it.each<readonly [string, string, string]>([
    ['another owner', 'b#0123456789ab', '1'],
    ['another claim', OWNER, '2'],
    ['nobody', '', '1'],
  ])('is refused for %s, and nothing changes', async (_, owner, fence) => {
    const { redis, id, reap } = await orphaned()
    const before = await snapshot(redis, id)
    expect(await reap(owner, fence)).toBe(0)
    expect(await snapshot(redis, id)).toEqual(before)
  })

  it('is refused the second time', async () => {
    const { redis, id, reap } = await orphaned()
    await reap()
    const before = await snapshot(redis, id)
    expect(await reap()).toBe(0)
    expect(await snapshot(redis, id)).toEqual(before)
  })

  it('that only its missing lock accuses is refused while there is a lock', async () => {
    const { redis, id, reap } = await orphaned()
    const before = await snapshot(redis, id)
    expect(await reap(OWNER, '1', 'none')).toBe(0)
    expect(await snapshot(redis, id)).toEqual(before)
    await redis.del(k.lock(id))
    expect(await reap(OWNER, '1', 'none')).toBe(1)
  })

  it.each<readonly [string, object]>([
    ['its own', { attempts: 1 }],
    ["the queue's, as it names none", { attempts: undefined }],
  ])('out of attempts (%s): the next taker fails it with the reason, charged once', async (_, opts) => {
    const { redis, id, reap, worker } = await orphaned(opts)
    if (!('attempts' in opts && opts.attempts === 1)) {
      await redis.hset(k.job(id), 'opts', '{}', 'atm', '7')
    }
    const before = Number((await fieldsOf(redis, id))['atm'] ?? 0)
    expect(await reap()).toBe(1)
    const ran: unknown[] = []
    worker(async ({ id: job }) => ran.push(job))
    await until(
      () => redis.zcard(k.failed),
      (count) => count === 1,
    )
    expect(ran).toEqual([])
    expect(await fieldsOf(redis, id)).toMatchObject({ failedReason: REASON, atm: String(before + 1) })
  })

  it('in a paused queue wakes nobody, and runs when the queue goes on', async () => {
    const { redis, queue, reap, worker } = await orphaned()
    await queue.pause()
    expect(await reap()).toBe(1)
    expect(await redis.exists(k.marker)).toBe(0)
    worker(async () => 1)
    await queue.resume()
    await until(
      () => redis.zcard(k.completed),
      (count) => count === 1,
    )
  })

  it('whose record is gone only leaves the list: no ghost is made of it', async () => {
    const { redis, id, reap } = await orphaned()
    await redis.del(k.job(id))
    expect(await reap('', '')).toBe(1)
    expect(await redis.exists(k.job(id), k.lock(id))).toBe(0)
    expect(await redis.llen(k.active)).toBe(0)
    expect(await redis.llen(k.wait)).toBe(0)
  })

  it('works for 500 at once', async () => {
    const stage = await setup()
    const { redis, queue, worker } = stage
    await queue.addBulk(Array.from({ length: 500 }, () => ({ name: 'm', data: {}, opts: { attempts: 3 } })))
    const taker = worker(async () => undefined, { autorun: false })
    for (let taken = 0; taken < 500; taken += 1) await taker.getNextJob(`token-${taken}`)
    const ids = await redis.lrange(k.active, 0, -1)
    const replies = await Promise.all(ids.map((id) => REAP.run(redis, [k.root], [id, OWNER, '1', REASON, 8, 'any', 1])))
    expect(replies.every((reply) => reply === 1)).toBe(true)
    worker(async () => 1, { concurrency: 50 })
    await until(
      () => redis.zcard(k.completed),
      (count) => count === 500,
    )
  })
})

describe('a worker with a witness', () => {
  /** A worker as QueueWorker makes it, whose jobs end when the test says so. */
  async function witnessed(redisUrl: string, lockDurationMs = 30_000) {
    const board = BeatBoard.create(
      { queues: [{ name: QUEUE, threads: 2, slots: 2 }], loops: [{ loop: 'fetch', queue: QUEUE }] },
      systemClock.monotonicMs,
    )
    const release = deferred<string>()
    const lost: string[] = []
    const runs: string[] = []
    const errors: string[] = []
    const attempts = new Attempts({
      queue: QUEUE,
      queueIndex: 0,
      board,
      executor: {
        run: async ({ id }) => {
          runs.push(id)
          return { ok: true, json: JSON.stringify(await release.promise) }
        },
        kill: () => undefined,
      },
    })
    const worker = new Worker<unknown, unknown, string>(
      QUEUE,
      async ({ id, name, data, attemptsStarted }, token = '') => {
        const outcome = await attempts.run({
          id: String(id),
          name,
          data,
          group: undefined,
          attempt: 1,
          fence: attemptsStarted,
          token,
        })
        return outcome.kind === 'success' ? outcome.result : undefined
      },
      {
        connection: { url: redisUrl, maxRetriesPerRequest: null },
        name: OWNER,
        skipStalledCheck: true,
        concurrency: 2,
        drainDelay: 1,
        lockDuration: lockDurationMs,
        runRetryDelay: 100,
      },
      witnessedBackendFactory({
        board,
        progress: new FetchProgress(board, board.loopWriter(0)),
        attempts,
        keys: k,
        lockDurationMs,
        lateAfterMs: 1000,
        lateClaims: new Set(),
        onDeferredFailure: async () => false,
        onLockLost: (id) => lost.push(id),
      }),
    )
    worker.on('error', (error) => errors.push(error.message))
    onTestFinished(() => worker.close(true))
    return { board, attempts, release, lost, runs, errors, worker }
  }

  const running = (attempts: Attempts) =>
    until(
      async () => attempts.list().length,
      (count) => count === 1,
    )
  const completed = (redis: Redis) =>
    until(
      () => redis.zcard(k.completed),
      (count) => count === 1,
    )

  it('B3 takes a lock that expired in mid-job again by itself, and its job completes', async () => {
    const { redis, queue, server } = await setup()
    const { attempts, release, lost, runs } = await witnessed(server.url, 1000)
    const { id = '' } = await queue.add('m', {})
    await running(attempts)
    await redis.del(k.lock(id))
    await until(
      () => redis.exists(k.lock(id)),
      (there) => there === 1,
    )
    release.resolve('fine')
    await completed(redis)
    expect(await fieldsOf(redis, id)).toMatchObject({ returnvalue: '"fine"', atm: '1', ats: '1' })
    expect({ lost, runs }).toEqual({ lost: [], runs: [id] })
  })

  it('B3 finishes a job whose lock expired just before its end', async () => {
    const { redis, queue, server } = await setup()
    const { attempts, board, release } = await witnessed(server.url)
    const { id = '' } = await queue.add('m', {})
    await running(attempts)
    await redis.del(k.lock(id))
    release.resolve('fine')
    await completed(redis)
    await attempts.idle()
    expect(board.readJobs()).toEqual([])
    expect(await fieldsOf(redis, id)).toMatchObject({ returnvalue: '"fine"', atm: '1' })
  })

  it('D9 is refused the result of a job that another claimed meanwhile, and told so', async () => {
    const { redis, queue, server } = await setup()
    const { attempts, board, release, lost } = await witnessed(server.url, 1000)
    const { id = '' } = await queue.add('m', {}, { attempts: 3 })
    await running(attempts)
    await redis.multi().set(k.lock(id), 'somebody:1').hincrby(k.job(id), 'ats', 1).exec()
    await until(
      async () => lost.length,
      (count) => count > 0,
    )
    release.resolve('stale')
    await attempts.idle()
    expect(board.readJobs()).toEqual([])
    // Its older owner may also report a failure: nothing of that may get through either.
    await queue.add('m', {})
    await completed(redis)
    expect(await redis.lrange(k.active, 0, -1)).toEqual([id])
    expect(await redis.get(k.lock(id))).toBe('somebody:1')
    const job = await fieldsOf(redis, id)
    expect({ result: job['returnvalue'], atm: job['atm'], reason: job['failedReason'] }).toEqual({})
  })

  it('E3 completes a job once when the reply to its end was lost', async () => {
    const { redis, queue, server } = await setup()
    const proxy = await startProxy(server.port)
    const { attempts, board, release, runs } = await witnessed(proxy.url)
    const { id = '' } = await queue.add('m', {}, { attempts: 3 })
    await running(attempts)
    // The text of the result travels only with moveToFinished.
    proxy.swallow('the-result')
    release.resolve('the-result')
    await completed(redis)
    proxy.heal()
    await attempts.idle()
    await queue.add('m', {})
    await until(
      () => redis.zcard(k.completed),
      (count) => count === 2,
    )
    expect(runs.filter((run) => run === id)).toEqual([id])
    expect(await fieldsOf(redis, id)).toMatchObject({ returnvalue: '"the-result"', atm: '1', ats: '1' })
    expect(await redis.zcard(k.failed)).toBe(0)
    await until(
      async () => board.readJobs().length,
      (count) => count === 0,
    )
  })

  it('shows each call of the fetch loop on the board, and is at rest with nothing out while all slots are taken', async () => {
    const { queue, server } = await setup()
    const { board, attempts, release } = await witnessed(server.url)
    await until(
      async () => board.readLoop(0),
      ({ phase, limitMs, inFlight }) => phase === 'waitForJob' && limitMs > 0 && inFlight === 1,
    )
    await queue.addBulk([
      { name: 'm', data: {} },
      { name: 'm', data: {} },
    ])
    await until(
      async () => attempts.list().length,
      (count) => count === 2,
    )
    expect(board.readLoop(0).inFlight).toBe(0)
    release.resolve('fine')
    await attempts.idle()
  })

  it('gives up a job whose end Redis refuses, so that it is found as an orphan and not shown as running for ever', async () => {
    const { redis, queue, server } = await setup()
    const { attempts, release, errors } = await witnessed(server.url)
    const { id = '' } = await queue.add('m', {}, { attempts: 3 })
    await running(attempts)
    // What a failover leaves for a moment: a server that takes no writes.
    await redis.replicaof('127.0.0.1', '1')
    release.resolve('fine')
    await attempts.idle()
    await until(
      async () => errors.join(),
      (said) => said.includes('READONLY'),
    )
    expect(await redis.zcard(k.completed)).toBe(0)
    expect(await redis.lrange(k.active, 0, -1)).toEqual([id])
  })
})

/** The one private thing that src takes from BullMQ's worker. */
describe("a worker's backend", () => {
  it('is where bullmq-worker.ts looks for it', async () => {
    const { worker } = await setup()
    const made = worker(async () => 1, { autorun: false })
    const { backend } = made as unknown as { backend: RedisQueueBackend }
    expect(typeof backend.moveToFinished).toBe('function')
    expect(typeof backend.disconnect).toBe('function')
  })
})

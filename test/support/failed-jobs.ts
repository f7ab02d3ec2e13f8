/** A real Redis with a BullMQ queue whose jobs fail the way a supervisor fails them. */
import { type Job, type JobsOptions, Queue, UnrecoverableError, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { onTestFinished } from 'vitest'
import { redisAttempts } from '../../src/dispatch/redis-attempts.js'
import type { FailedKind } from '../../src/dispatch/retry-policy.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { startTestRedis } from './redis.js'

export const QUEUE = 'mail'
export const k = queueKeys('bull', QUEUE)
export const OWNER = 'a#0123456789ab'
/** The settings under which jobs fail unless a test says otherwise. */
export const SETTINGS = 'f00d'

export interface FailOptions {
  readonly kind?: FailedKind
  readonly id?: string
  readonly group?: string
  /** From now until it is due; negative is over. Default: over. */
  readonly cooldownMs?: number
  readonly settings?: string
  readonly opts?: JobsOptions
}

export async function failedJobs() {
  const server = await startTestRedis()
  onTestFinished(() => server.stop())
  const redis = new Redis(server.url)
  onTestFinished(() => redis.disconnect())
  const queue = new Queue(QUEUE, { connection: { url: server.url } })
  onTestFinished(() => queue.close())
  const worker = (
    run: (job: Job) => Promise<unknown>,
    options: { autorun?: boolean; name?: string; concurrency?: number } = {},
  ) => {
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
  const taker = worker(async () => undefined, { autorun: false })
  let tokens = 0

  /** Claims the next job as a worker would, and lets nothing run. */
  const claim = async (by: Worker = taker) => {
    tokens += 1
    const token = `token-${tokens}`
    const job = (await by.getNextJob(token)) as Job | undefined
    if (!job) throw new Error('nothing to claim')
    return { job, id: String(job.id), token, fence: job.attemptsStarted }
  }

  const add = ({ id, group, opts = {} }: FailOptions = {}) =>
    queue.add('m', {}, {
      attempts: 8,
      ...(id === undefined ? {} : { jobId: id }),
      ...(group === undefined ? {} : { unstuck: { group } }),
      ...opts,
    } as JobsOptions)

  const fail = async (claimed: Awaited<ReturnType<typeof claim>>, how: FailOptions = {}) => {
    const { kind = 'exhausted', group, cooldownMs = -1, settings = SETTINGS } = how
    const breaker = { failures: 1_000_000, probeMs: 1000 }
    const limits = { attemptsMax: 8, maxResets: 5, breaker }
    const records = redisAttempts({ redis: async () => redis, keys: k, owner: OWNER, settings, ...limits })
    const { job, token } = claimed
    const claimOf = { ...claimed, group }
    await records.end(claimOf, { mayPass: false, threadLost: false })
    await records.fail(claimOf, kind, cooldownMs)
    await job.moveToFailed(new UnrecoverableError('boom'), token, false)
  }

  /** Adds a job that has used 8 attempts and failed. @returns its id */
  const failed = async (how: FailOptions = {}): Promise<string> => {
    const { id } = await add(how)
    const claimed = await claim()
    if (claimed.id !== id) throw new Error(`another job was next: ${claimed.id}`)
    await redis.hset(k.job(claimed.id), 'atm', 7)
    await fail(claimed, how)
    return claimed.id
  }

  const many = async (count: number, how: FailOptions = {}): Promise<string[]> => {
    const ids: string[] = []
    for (let made = 0; made < count; made++) ids.push(await failed(how))
    return ids
  }

  /** When each delayed job may run, ms from the first on, in the order in which they will. */
  const schedule = async (): Promise<{ id: string; at: number }[]> => {
    const flat = await redis.zrange(k.delayed, '0', '-1', 'WITHSCORES')
    return flat.flatMap((id, index) => (index % 2 === 0 ? [{ id, at: Number(flat[index + 1]) / 4096 }] : []))
  }
  const fields = (id: string) => redis.hgetall(k.job(id))
  const stateOf = async (id: string) => (await queue.getJob(id))?.getState()
  /** The audit, oldest first. */
  const audit = async (): Promise<Record<string, string>[]> =>
    (await redis.xrange(k.audit, '-', '+')).map(([, flat]) =>
      Object.fromEntries(flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? '']] : []))),
    )
  return { server, redis, queue, worker, claim, add, fail, failed, many, schedule, fields, stateOf, audit }
}

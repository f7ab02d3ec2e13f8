/** The reconcile loop's store: leases, active jobs and their owners, and the taking back of orphans, in Redis. */
import type { Redis } from 'ioredis'
import { REAP } from '../dispatch/bullmq-scripts.js'
import type { Observer } from '../heartbeat/observer.js'
import { readBeats } from '../heartbeat/redis-heartbeats.js'
import type { QueueFactsReader } from '../heartbeat/redis-queue-facts.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import type { Clock } from '../kernel/clock.js'
import { type FleetKeys, queueKeys } from '../platform/redis-keys.js'
import { LUA_NOW, redisScript } from '../platform/redis-script.js'
import type { ReconcilePort } from './reconcile-loop.js'

const LOOK = redisScript(`${LUA_NOW}
local epoch = redis.call('GET', KEYS[1])
if not epoch then redis.call('SET', KEYS[1], ARGV[1]) end
return {now, epoch or '', redis.call('GET', KEYS[1])}
`)

const LEASE = redisScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`)

/** Beats read in one call. */
const BEATS_AT_ONCE = 200

export interface RedisReconcileOptions {
  readonly redis: Redis
  readonly keys: FleetKeys
  readonly bullPrefix: string
  /** Who holds the leases: `supervisor#incarnation`. */
  readonly owner: string
  readonly leaseMs: number
  readonly observer: Observer
  readonly clock: Clock
  readonly facts: QueueFactsReader
  readonly attemptsOf: (queue: string) => number
}

export function redisReconcile(options: RedisReconcileOptions): ReconcilePort {
  const { redis, keys, bullPrefix, owner, leaseMs, observer, clock, facts, attemptsOf } = options
  return {
    async look() {
      const before = clock.monotonicMs()
      try {
        const reply = await LOOK.run(redis, [keys.epoch], [owner])
        const [redisNow, epochBefore, epoch] = reply as [number, string, string]
        return observer.looked({ redisNow, epochBefore: epochBefore || undefined, epoch, before, after: clock.monotonicMs() })
      } catch (error) {
        observer.failed(before, clock.monotonicMs())
        throw error
      }
    },
    now: clock.monotonicMs,
    async lease(queue) {
      return (await LEASE.run(redis, [queueKeys(bullPrefix, queue).lease], [owner, leaseMs])) === 1
    },
    async measure(queue) {
      const [measured] = await facts.read([queue])
      if (measured) await redis.hset(keys.facts, queue, JSON.stringify({ ...measured, by: owner }))
    },
    async activeJobs(queue) {
      const k = queueKeys(bullPrefix, queue)
      const ids = await redis.lrange(k.active, 0, -1)
      return Promise.all(
        ids.map(async (id) => {
          const [fields, locked] = await Promise.all([redis.hmget(k.job(id), 'pb', 'ats'), redis.exists(k.lock(id))])
          return { id, owner: fields[0] ?? undefined, fence: fields[1] ?? undefined, locked: locked === 1 }
        }),
      )
    },
    async beats(supervisors) {
      const seen = new Map<string, SeenBeat>()
      for (let from = 0; from < supervisors.length; from += BEATS_AT_ONCE) {
        for (const beat of await readBeats(redis, keys, supervisors.slice(from, from + BEATS_AT_ONCE))) {
          seen.set(beat.supervisor, beat)
        }
      }
      return seen
    },
    async reap(queue, { job, reason, message }) {
      const k = queueKeys(bullPrefix, queue)
      const reply = await REAP.run(
        redis,
        [k.job(job.id), k.lock(job.id), k.active, k.wait, k.prioritized, k.marker, k.events, k.meta, k.stalled],
        [job.id, job.owner ?? '', job.fence ?? '', message, attemptsOf(queue), reason === 'unlocked' ? 'none' : 'any'],
      )
      return reply === 1
    },
  }
}

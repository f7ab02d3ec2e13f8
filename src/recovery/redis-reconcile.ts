/** The reconcile loop's store: leases, active jobs and their owners, the taking back of orphans, and resets, in Redis. */
import type { Redis } from 'ioredis'
import { REAP } from '../dispatch/bullmq-scripts.js'
import type { Observer } from '../heartbeat/observer.js'
import { readBeats } from '../heartbeat/redis-heartbeats.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import type { Clock } from '../kernel/clock.js'
import { type FleetKeys, type QueueKeys, queueKeys } from '../platform/redis-keys.js'
import { LUA_NOW, redisScript } from '../platform/redis-script.js'
import type { ReconcilePort } from './reconcile-loop.js'
import { promoteProbes, type ResetRules, releaseDue, startRestarts, sweepPage, workCampaign } from './redis-resets.js'
import type { ReleasePort } from './release-phases.js'

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

/** What the hash of restarts calls the last death in a group after which somebody was seen again. */
const SEEN_AGAIN = 'back:'

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
  readonly rulesOf: (queue: string) => QueueRules
}

/** What a queue's orphans, resets and probes go by. */
export interface QueueRules extends Omit<ResetRules, 'actor'> {
  readonly probeMs: number
}

export function redisReconcile(options: RedisReconcileOptions): ReconcilePort {
  const { redis, keys, bullPrefix, owner, leaseMs, observer, clock, rulesOf } = options
  return {
    ...redisRelease(options),
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
    openBreakers: (queue) => redis.hkeys(queueKeys(bullPrefix, queue).breakers),
    async restarts() {
      const counts = Object.entries(await redis.hgetall(keys.restarts))
      return new Map(
        counts.flatMap(([name, count]) =>
          name.startsWith(SEEN_AGAIN) ? [[name.slice(SEEN_AGAIN.length), Number(count)]] : [],
        ),
      )
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
      const lost = reason === 'supervisor_lost' ? 1 : 0
      const reply = await REAP.run(
        redis,
        [queueKeys(bullPrefix, queue).root],
        [
          job.id,
          job.owner ?? '',
          job.fence ?? '',
          message,
          rulesOf(queue).attempts.max,
          reason === 'unlocked' ? 'none' : 'any',
          lost,
        ],
      )
      return reply === 1
    },
  }
}

function redisRelease({ redis, bullPrefix, owner, rulesOf }: RedisReconcileOptions): ReleasePort {
  const keysOf = (queue: string): QueueKeys => queueKeys(bullPrefix, queue)
  const resetRules = (queue: string): ResetRules => ({ ...rulesOf(queue), actor: owner })
  return {
    startRestarts: (queue, restarts) => startRestarts(redis, keysOf(queue), owner, restarts),
    workCampaign: (queue) => workCampaign(redis, keysOf(queue), resetRules(queue)),
    releaseDue: (queue) => releaseDue(redis, keysOf(queue), resetRules(queue)),
    promoteProbes: (queue) => promoteProbes(redis, keysOf(queue), rulesOf(queue).probeMs),
    sweepPage: (queue, cursors, size) => sweepPage(redis, keysOf(queue), resetRules(queue), cursors, size),
    async swept(queue) {
      await redis.set(keysOf(queue).settings, rulesOf(queue).settings)
    },
  }
}

import type { Redis } from 'ioredis'
import { readBeats } from '../heartbeat/redis-heartbeats.js'
import { redisQueueFacts } from '../heartbeat/redis-queue-facts.js'
import { fleetKeys } from '../platform/redis-keys.js'
import { systemClock } from '../platform/system-clock.js'
import { redisIncidents } from '../watchdog/redis-incidents.js'
import type { FleetSource } from './read-model.js'

const BEATS_PER_CALL = 500

/** Reads the fleet from Redis. A queue that cannot be read is left out. */
export function redisFleetSource(redis: Redis, { prefix, bullPrefix }: { prefix: string; bullPrefix: string }): FleetSource {
  const keys = fleetKeys(prefix)
  const facts = redisQueueFacts({ redis, keys, bullPrefix, now: () => systemClock.now(), onError: () => undefined })
  const incidents = redisIncidents(redis, keys)
  return {
    async names() {
      const [supervisors, queues] = await Promise.all([redis.zrange(keys.due, '0', '-1'), redis.smembers(keys.queues)])
      return { supervisors, queues }
    },
    async readBeats(supervisors) {
      const seen = []
      for (let at = 0; at < supervisors.length; at += BEATS_PER_CALL) {
        seen.push(...(await readBeats(redis, keys, supervisors.slice(at, at + BEATS_PER_CALL))))
      }
      return seen
    },
    readQueues: (queues) => facts.read(queues),
    listOpen: () => incidents.listOpen(),
  }
}

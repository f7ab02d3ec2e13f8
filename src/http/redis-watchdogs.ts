/** Which watchdogs there are, and since when each is silent. */
import type { Redis } from 'ioredis'
import type { FleetKeys } from '../platform/redis-keys.js'
import { LUA_NOW, redisScript } from '../platform/redis-script.js'
import type { WatchdogPresence } from './problems.js'

const PRESENCE = redisScript(`${LUA_NOW}return {now, unpack(redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'))}`)

export async function readWatchdogs(redis: Redis, { watchdogs }: FleetKeys): Promise<WatchdogPresence[]> {
  const [now = 0, ...seen] = ((await PRESENCE.run(redis, [watchdogs], [])) as (string | number)[]).map(String)
  const found: WatchdogPresence[] = []
  for (let i = 0; i + 1 < seen.length; i += 2)
    found.push({ id: seen[i] ?? '', silentMs: Math.max(0, Number(now) - Number(seen[i + 1])) })
  return found
}

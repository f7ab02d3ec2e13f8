/** Asks a supervisor's sentinel for dumps: the order lies in its list, and a word on its channel makes it look there now. */
import type { Redis } from 'ioredis'
import type { FleetKeys } from '../platform/redis-keys.js'
import { redisScript } from '../platform/redis-script.js'
import type { DumpOrder } from './dump-request.js'

/** Nobody wants a dump of what was a minute ago. */
const ORDER_TTL_MS = 60_000

const ASK = redisScript(`
redis.call('RPUSH', KEYS[1], ARGV[1])
-- Other orders that lie there keep their own, longer time.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
redis.call('PUBLISH', KEYS[2], '')
return 1
`)

/** Resolves when the order lies there; `awaitAnswer` waits for what comes of it. @param to as it was seen; another incarnation drops the order */
export async function askForDump(
  redis: Redis,
  keys: FleetKeys,
  to: { readonly supervisor: string; readonly incarnation: string },
  order: DumpOrder,
): Promise<void> {
  const text = JSON.stringify({ ...order, incarnation: to.incarnation })
  await ASK.run(redis, [keys.orders(to.supervisor), keys.wake(to.supervisor)], [text, ORDER_TTL_MS])
}

/** @param subscriber a connection of its own, that subscribes again by itself after a reconnect */
export async function onWake(subscriber: Redis, keys: FleetKeys, supervisor: string, listener: () => void): Promise<void> {
  subscriber.on('message', listener)
  await subscriber.subscribe(keys.wake(supervisor))
}

/** Sends an order to a supervisor: it lies in a list until that supervisor's next beat takes it, within a beat's interval. */
import type { Redis } from 'ioredis'
import type { FleetKeys } from '../platform/redis-keys.js'
import { redisScript } from '../platform/redis-script.js'
import { writeOrder } from './orders.js'
import type { SupervisorOrder } from './sentinel-protocol.js'

/** An order that nobody took for so long was for one that is gone. */
const ORDER_TTL_MS = 3_600_000

const SEND = redisScript(`
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`)

/**
 * Resolves when the order lies there, not when it is obeyed. It is taken at most once: what must not get lost with a
 * supervisor that dies just then stands elsewhere too (a job's cancellation in the job itself).
 * @param to the incarnation that was seen under this name; another one drops the order
 */
export async function sendOrder(
  redis: Redis,
  keys: FleetKeys,
  to: { readonly supervisor: string; readonly incarnation: string },
  order: SupervisorOrder,
): Promise<void> {
  await SEND.run(redis, [keys.orders(to.supervisor)], [writeOrder(order, to.incarnation), ORDER_TTL_MS])
}

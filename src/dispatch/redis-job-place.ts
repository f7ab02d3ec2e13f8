/** Where BullMQ keeps one job now, in one Lua call. Reads only; the layout of the keys is BullMQ 6's. */
import type { Redis } from 'ioredis'
import { queueKeys } from '../platform/redis-keys.js'
import { type RedisReply, redisScript } from '../platform/redis-script.js'
import type { JobPlace } from './explain.js'

// KEYS: job, wait, prioritized, active, delayed, completed, failed, paused, meta. ARGV: job id. Taken next is the last
// of the wait list, then the lowest of the prioritized. A delayed job's score is its time in ms * 0x1000.
const PLACE = redisScript(`
local id = ARGV[1]
local job = redis.call('HMGET', KEYS[1], 'atm', 'failedReason', 'timestamp')
if not job[3] then return {'not_found', 0, '', '', 0} end
local state, number = 'waiting-children', ''
local delayed, rank = redis.call('ZSCORE', KEYS[5], id), redis.call('ZRANK', KEYS[3], id)
local wait, parked = redis.call('LPOS', KEYS[2], id, 'RANK', -1), redis.call('LPOS', KEYS[8], id, 'RANK', -1)
if redis.call('ZSCORE', KEYS[6], id) then state = 'completed'
elseif redis.call('ZSCORE', KEYS[7], id) then state = 'failed'
elseif redis.call('LPOS', KEYS[4], id) then state = 'active'
elseif delayed then state, number = 'delayed', string.format('%.0f', math.floor(delayed / 4096))
elseif wait then state, number = 'waiting', redis.call('LLEN', KEYS[2]) - 1 - wait
elseif rank then state, number = 'waiting', redis.call('LLEN', KEYS[2]) + rank
elseif parked then state, number = 'waiting', redis.call('LLEN', KEYS[8]) - 1 - parked end
return {state, job[1] or 0, job[2] or '', tostring(number), redis.call('HEXISTS', KEYS[9], 'paused')}
`)

export async function readJobPlace(redis: Redis, bullPrefix: string, queue: string, id: string): Promise<JobPlace> {
  const k = queueKeys(bullPrefix, queue)
  const keys = [k.job(id), k.wait, k.prioritized, k.active, k.delayed, k.completed, k.failed, k.paused, k.meta]
  const [state, attemptsMade, lastError, number, paused] = (await PLACE.run(redis, keys, [id])) as RedisReply[]
  const place = { state: state as JobPlace['state'], attemptsMade: Number(attemptsMade), paused: paused === 1 }
  return {
    ...place,
    ...(lastError === '' ? {} : { lastError: String(lastError) }),
    ...(place.state === 'delayed' ? { dueAt: Number(number) } : {}),
    ...(place.state === 'waiting' ? { ahead: Number(number) } : {}),
  }
}

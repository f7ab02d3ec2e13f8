/**
 * Measures queues: one Lua call for each (its keys share BullMQ's slot of that queue), and one for the whole fleet's
 * workers. Reads only. The layout of the keys is BullMQ 6's; of its schedulers: `repeat` holds scheduler ids by the
 * time of their next job, whose id is `repeat:ID:TIME` and which is replaced by its successor when a worker takes it.
 */
import type { Redis } from 'ioredis'
import { type FleetKeys, queueKeys } from '../platform/redis-keys.js'
import { LUA_NOW, type RedisReply, redisScript } from '../platform/redis-script.js'
import type { QueueFacts } from './queue-facts.js'

/** How long past its time a delayed job may lie before its scheduler is called overdue, milliseconds: promotion comes with the next fetch. */
const SCHEDULER_GRACE_MS = 2000
/** Schedulers looked at in one call. */
const MAX_SCHEDULERS = 100

// KEYS: eleven of BullMQ's, then exhausted, permanent, breakers. ARGV: own wall clock, grace, most schedulers. A scheduler's time is a wall-clock time of whoever added it, so "due" is
// what both the store's clock and ours call past: one clock that jumped ahead accuses nobody.
const FACTS = redisScript(`${LUA_NOW}
local wait, prioritized, paused = redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('LLEN', KEYS[3])
local meta = redis.call('HMGET', KEYS[8], 'paused', 'concurrency', 'max')
local active = redis.call('LLEN', KEYS[4])
local head = redis.call('LINDEX', KEYS[1], -1) or redis.call('ZRANGE', KEYS[2], 0, 0)[1] or redis.call('LINDEX', KEYS[3], -1)
local fields = head and redis.call('HMGET', KEYS[11] .. head, 'ats', 'timestamp') or {}
local limited = redis.call('PTTL', KEYS[9])
if meta[3] and tonumber(redis.call('GET', KEYS[9]) or 0) < tonumber(meta[3]) then limited = 0 end
local overdue = {}
local due = math.min(now, tonumber(ARGV[1])) - tonumber(ARGV[2])
local schedulers = redis.call('ZRANGE', KEYS[10], '-inf', due, 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
for i = 1, #schedulers, 2 do
  local id, time = schedulers[i], string.format('%.0f', schedulers[i + 1])
  local spec = redis.call('HMGET', KEYS[10] .. ':' .. id, 'limit', 'ic', 'endDate')
  local over = spec[3] or (spec[1] and tonumber(spec[2] or 0) >= tonumber(spec[1]))
  local job = 'repeat:' .. id .. ':' .. time
  local exists = redis.call('HMGET', KEYS[11] .. job, 'timestamp', 'finishedOn')
  if redis.call('ZSCORE', KEYS[5], job) or (not over and (not exists[1] or exists[2])) then overdue[#overdue + 1] = id end
end
return {wait + prioritized + paused, active, redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[6]), redis.call('ZCARD', KEYS[7]),
  meta[1] and 1 or 0, math.max(limited, 0), (meta[2] and active >= tonumber(meta[2])) and 1 or 0,
  head and (head .. ':' .. (fields[1] or '0')) or '', fields[2] and (now - tonumber(fields[2])) or -1, overdue,
  redis.call('ZCARD', KEYS[12]), redis.call('ZCARD', KEYS[13]), redis.call('HKEYS', KEYS[14])}
`)

const WORKERS = redisScript(`${LUA_NOW}
local out = {}
for i = 1, #KEYS do out[i] = redis.call('ZCOUNT', KEYS[i], now, '+inf') end
return out
`)

export interface QueueFactsReader {
  /** All of them at once; a queue that cannot be read is left out and named to `onError`. */
  read(queues: readonly string[]): Promise<QueueFacts[]>
}

export interface QueueFactsOptions {
  readonly redis: Redis
  readonly keys: FleetKeys
  readonly bullPrefix: string
  /** Own wall clock, milliseconds. */
  readonly now: () => number
  readonly onError: (queue: string, error: unknown) => void
}

export function redisQueueFacts({ redis, keys, bullPrefix, now, onError }: QueueFactsOptions): QueueFactsReader {
  const readOne = async (queue: string): Promise<RedisReply[] | undefined> => {
    const k = queueKeys(bullPrefix, queue)
    const lists = [k.wait, k.prioritized, k.paused, k.active, k.delayed, k.completed, k.failed, k.meta, k.limiter, k.repeat]
    const touched = [...lists, `${k.base}:`, k.exhausted, k.permanent, k.breakers]
    try {
      return (await FACTS.run(redis, touched, [now(), SCHEDULER_GRACE_MS, MAX_SCHEDULERS])) as RedisReply[]
    } catch (error) {
      onError(queue, error)
      return undefined
    }
  }
  return {
    async read(queues) {
      if (queues.length === 0) return []
      const workerKeys = queues.flatMap((queue) => [keys.workers(queue), keys.free(queue)])
      const [workers, ...replies] = await Promise.all([WORKERS.run(redis, workerKeys, []), ...queues.map(readOne)])
      const counts = workers as number[]
      return queues.flatMap((queue, index) => {
        const reply = replies[index]
        return reply ? [factsOf(queue, reply, counts[2 * index] ?? 0, counts[2 * index + 1] ?? 0)] : []
      })
    },
  }
}

function factsOf(queue: string, reply: RedisReply[], eligible: number, free: number): QueueFacts {
  const number = (index: number) => Number(reply[index])
  const head = String(reply[8])
  return {
    queue,
    waiting: number(0),
    active: number(1),
    delayed: number(2),
    failed: number(4),
    completed: number(3),
    paused: number(5) === 1,
    limitedMs: number(6),
    maxed: number(7) === 1,
    head: head === '' ? undefined : head,
    headAgeMs: number(9) < 0 ? undefined : number(9),
    overdueSchedulers: reply[10] as string[],
    exhausted: number(11),
    permanent: number(12),
    breakersOpen: (reply[13] as string[]).sort(),
    eligible,
    free,
  }
}

/** The watch loop's look at the store: one Lua call whose cost follows what is due, not the size of the fleet. */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { readBeats } from '../heartbeat/redis-heartbeats.js'
import type { FleetKeys } from '../platform/redis-keys.js'
import { LUA_NOW, type RedisReply, redisScript } from '../platform/redis-script.js'
import type { Incident } from './incident.js'
import { parseIncident } from './redis-incidents.js'
import type { Hints, StoreLook, WatchStore } from './watch-store.js'

/** Beats read in one call: enough to be fast, few enough to leave Redis free for others in between. */
const BEATS_PER_CALL = 500

// KEYS: epoch, due, open, watchdogs, unsaid, sequence, queues. ARGV: own id, a random id, timeoutMs.
// An epoch bears the time too: who sets it again after a flush must not set the same.
const LOOK = redisScript(`${LUA_NOW}
local before = redis.call('GET', KEYS[1])
local epoch = before or (ARGV[2] .. ':' .. now)
if not before then redis.call('SET', KEYS[1], epoch) end
redis.call('ZADD', KEYS[4], now, ARGV[1])
return {now, before or '', epoch,
  redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'WITHSCORES'),
  redis.call('ZRANGE', KEYS[2], '+inf', '(' .. (now + 2 * ARGV[3]), 'BYSCORE', 'REV', 'LIMIT', 0, 100),
  redis.call('ZRANGE', KEYS[2], '(' .. now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES'),
  redis.call('HVALS', KEYS[3]), redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES'),
  redis.call('ZCOUNT', KEYS[5], '-inf', now), redis.call('GET', KEYS[6]) or '0', redis.call('SMEMBERS', KEYS[7])}
`)

// KEYS: beat, due, then workers and free of every queue. ARGV: supervisor. Only a beat that the store's clock calls
// later than now was written before the clock stepped back.
const PULL_IN = redisScript(`${LUA_NOW}
local times = redis.call('HMGET', KEYS[1], 'at', 'deadAt')
if not times[1] or tonumber(times[1]) <= now then return 0 end
local deadAt = now + tonumber(times[2]) - tonumber(times[1])
redis.call('HSET', KEYS[1], 'at', now, 'deadAt', deadAt)
redis.call('ZADD', KEYS[2], 'XX', deadAt, ARGV[1])
for i = 3, #KEYS do redis.call('ZADD', KEYS[i], 'XX', deadAt, ARGV[1]) end
return 1
`)

// KEYS: the same. ARGV: supervisor, generation that was seen.
const FORGET = redisScript(`${LUA_NOW}
local record = redis.call('HMGET', KEYS[1], 'generation', 'deadAt')
if record[1] and (tonumber(record[1]) ~= tonumber(ARGV[2]) or tonumber(record[2]) >= now) then return 0 end
redis.call('DEL', KEYS[1])
for i = 2, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
return 1
`)

export interface WatchStoreOptions {
  readonly redis: Redis
  readonly keys: FleetKeys
  readonly watchdogId: string
  /** heartbeat.timeoutMs */
  readonly timeoutMs: number
}

export function redisWatchStore({ redis, keys, watchdogId, timeoutMs }: WatchStoreOptions): WatchStore {
  const keysOf = (supervisor: string, queues: readonly string[]) => [
    keys.beat(supervisor),
    keys.due,
    ...queues.flatMap((queue) => [keys.workers(queue), keys.free(queue)]),
  ]
  return {
    async look() {
      const looked = [keys.epoch, keys.due, keys.open, keys.watchdogs, keys.unsaid, keys.sequence, keys.queues]
      return storeLook((await LOOK.run(redis, looked, [watchdogId, randomUUID(), timeoutMs])) as RedisReply[], watchdogId)
    },
    async readBeats(supervisors) {
      const seen = []
      for (let at = 0; at < supervisors.length; at += BEATS_PER_CALL) {
        seen.push(...(await readBeats(redis, keys, supervisors.slice(at, at + BEATS_PER_CALL))))
      }
      return seen
    },
    async pullIn(supervisors, queues) {
      await Promise.all(supervisors.map((supervisor) => PULL_IN.run(redis, keysOf(supervisor, queues), [supervisor])))
    },
    async forget({ supervisor, generation }, queues) {
      await FORGET.run(redis, keysOf(supervisor, queues), [supervisor, generation])
    },
    async forgetWatchdog(id) {
      await redis.zrem(keys.watchdogs, id)
    },
    async goodbye() {
      await redis.zrem(keys.watchdogs, watchdogId)
    },
  }
}

function storeLook(reply: RedisReply[], watchdogId: string): StoreLook {
  const redisNow = Number(reply[0])
  const epochBefore = String(reply[1])
  const next = pairs(reply[5])[0]
  return {
    redisNow,
    epochBefore: epochBefore === '' ? undefined : epochBefore,
    epoch: String(reply[2]),
    due: new Map(pairs(reply[3]).map(([supervisor, score]) => [supervisor, redisNow - score])),
    fromTheFuture: reply[4] as string[],
    nextDueInMs: next ? next[1] - redisNow : Number.POSITIVE_INFINITY,
    open: (reply[6] as string[]).flatMap(readableIncident),
    watchdogs: pairs(reply[7])
      .filter(([id]) => id !== watchdogId)
      .map(([id, score]) => ({ id, silentMs: redisNow - score })),
    overdueLines: Number(reply[8]),
    seq: Number(reply[9]),
    queues: reply[10] as string[],
  }
}

function pairs(reply: RedisReply | undefined): [string, number][] {
  const flat = reply as string[]
  const found: [string, number][] = []
  for (let i = 0; i + 1 < flat.length; i += 2) found.push([flat[i] ?? '', Number(flat[i + 1])])
  return found
}

/** One record that somebody else garbled must not stop the watchdog. */
function readableIncident(text: string): Incident[] {
  try {
    return [parseIncident(text)]
  } catch {
    return []
  }
}

/** @param subscriber a connection of its own, that subscribes again by itself after a reconnect */
export function redisHints(subscriber: Redis, keys: FleetKeys): Hints {
  return {
    async subscribe(listener) {
      subscriber.on('message', (_channel: string, supervisor: string) => listener(supervisor))
      await subscriber.subscribe(keys.hints)
    },
    async close() {
      subscriber.disconnect()
    },
  }
}

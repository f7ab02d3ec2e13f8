/**
 * Beats in Redis: how a sentinel registers, beats and says goodbye, and how an observer reads beats.
 *
 * One Lua call stores a beat and moves the supervisor in the deadline index by the store's own clock: to "now" when
 * something in the beat is late, else to the moment when silence will mean death. So an observer asks only for what is
 * due. Each incarnation bears a generation, a number that only grows: a late beat of a former incarnation is refused.
 * An accepted beat brings back the orders that lay there for the supervisor, and a registration says that its group is
 * back after a death: then jobs that failed with the dead one get their attempts again (the reconcile loop's business).
 */
import type { Redis } from 'ioredis'
import { type FleetKeys, fleetKeys } from '../platform/redis-keys.js'
import { LUA_NOW, type RedisReply, redisScript } from '../platform/redis-script.js'
import type { Beat } from './beat.js'
import { lagsOf } from './beat-lags.js'
import type { SeenBeat } from './seen-beat.js'
import type { BeatSink } from './sentinel.js'

/** How long a beat stays readable after its last renewal, also after a goodbye: longer than any threshold, 1 hour. */
const BEAT_TTL_MS = 3_600_000

/** What one beat brings back; further orders wait for the next. */
const ORDERS_PER_BEAT = 100

// KEYS: beat, generation, due, epoch, orders, restarts. ARGV: incarnation, timeoutMs, host, pid, TTL, name, new epoch,
// hints channel, group.
const REGISTER = redisScript(`${LUA_NOW}
local dead = redis.call('HMGET', KEYS[1], 'incarnation', 'deadAt', 'bye', 'host', 'pid')
local silence = tonumber(ARGV[2])
if dead[1] and dead[1] ~= ARGV[1] and not dead[3] then
  local left = tonumber(dead[2]) - now
  if left > 0 and left <= silence * 10 then return {0, dead[4] or '', dead[5] or ''} end
end
-- Not a plain counter: in a store that was flushed it would fall behind the generations of those who still live.
local generation = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, now)
redis.call('SET', KEYS[2], generation)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1], 'generation', generation, 'host', ARGV[3], 'pid', ARGV[4],
  'at', now, 'deadAt', now + silence)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', KEYS[3], now + silence, ARGV[6])
redis.call('SET', KEYS[4], ARGV[7] .. ':' .. now, 'NX')
-- A sentinel that was started again in a living process leaves that process's orders alone.
if dead[1] ~= ARGV[1] then redis.call('DEL', KEYS[5]) end
local restarts = redis.call('HMGET', KEYS[6], 'died:' .. ARGV[9], 'back:' .. ARGV[9])
if tonumber(restarts[1] or 0) > tonumber(restarts[2] or 0) then redis.call('HSET', KEYS[6], 'back:' .. ARGV[9], restarts[1]) end
redis.call('HSET', KEYS[6], 'registered:' .. ARGV[9], now)
redis.call('PUBLISH', ARGV[8], ARGV[6])
return {generation, '', ''}
`)

// KEYS: beat, due, epoch, orders, then workers and free of each queue. ARGV: name, incarnation, generation, beat JSON,
// timeoutMs, late 0/1, hints channel or '', TTL, new epoch, beat's seq, its lags, then eligible 0/1 and free slots for each queue.
// Returns 1 or -1 (refused), the store's time, then the orders.
const BEAT = redisScript(`${LUA_NOW}
local last = redis.call('HMGET', KEYS[1], 'generation', 'seq', 'bye')
local mine, seq = tonumber(ARGV[3]), tonumber(ARGV[10])
if last[1] and tonumber(last[1]) > mine then return {-1, now} end
-- A beat that lay in an old socket while newer ones, or the goodbye, overtook it.
if last[1] and tonumber(last[1]) == mine and (last[3] or (last[2] and tonumber(last[2]) >= seq)) then return {1, now} end
local deadAt = now + tonumber(ARGV[5])
redis.call('HSET', KEYS[1], 'incarnation', ARGV[2], 'generation', mine, 'at', now, 'deadAt', deadAt, 'seq', seq, 'beat', ARGV[4],
  'lags', ARGV[11])
redis.call('PEXPIRE', KEYS[1], ARGV[8])
redis.call('ZADD', KEYS[2], ARGV[6] == '1' and now or deadAt, ARGV[1])
redis.call('SET', KEYS[3], ARGV[9] .. ':' .. now, 'NX')
local arg = 12
for key = 5, #KEYS, 2 do
  if ARGV[arg] == '1' then redis.call('ZADD', KEYS[key], deadAt, ARGV[1]) else redis.call('ZREM', KEYS[key], ARGV[1]) end
  if ARGV[arg] == '1' and tonumber(ARGV[arg + 1]) > 0 then
    redis.call('ZADD', KEYS[key + 1], deadAt, ARGV[1])
  else
    redis.call('ZREM', KEYS[key + 1], ARGV[1])
  end
  arg = arg + 2
end
if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[7], ARGV[1]) end
local orders = redis.call('LRANGE', KEYS[4], 0, ${ORDERS_PER_BEAT - 1})
if #orders > 0 then redis.call('LTRIM', KEYS[4], #orders, -1) end
return {1, now, unpack(orders)}
`)

// KEYS: beat, due, orders, then workers and free of each queue.
const GOODBYE = redisScript(`${LUA_NOW}
local current = redis.call('HGET', KEYS[1], 'generation')
if not current or tonumber(current) ~= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'bye', now, 'at', now)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
for key = 4, #KEYS do redis.call('ZREM', KEYS[key], ARGV[1]) end
redis.call('PUBLISH', ARGV[4], ARGV[1])
return 1
`)

const READ = redisScript(`${LUA_NOW}
local out = {now}
for i = 1, #KEYS do
  out[i + 1] = redis.call('HMGET', KEYS[i], 'incarnation', 'generation', 'at', 'deadAt', 'bye', 'beat')
end
return out
`)

export interface BeatWriterOptions {
  readonly prefix: string
  readonly supervisor: string
  readonly incarnation: string
  readonly group?: string
  readonly host: string
  readonly pid: number
  readonly timeoutMs: number
  /** Those known at the start; further ones come with the beats. */
  readonly queues: readonly string[]
}

export function redisBeatWriter(redis: Redis, options: BeatWriterOptions): BeatSink {
  const keys = fleetKeys(options.prefix)
  const { supervisor, incarnation, group = '', timeoutMs, queues } = options
  const beatKey = keys.beat(supervisor)
  const ordersKey = keys.orders(supervisor)
  const queueKeysOf = (names: readonly string[]) => names.flatMap((queue) => [keys.workers(queue), keys.free(queue)])
  /** All that it ever served: nothing of it may stay behind. */
  const known = new Set<string>(queues)
  let generation = 0

  async function learn(names: readonly string[]): Promise<void> {
    const fresh = names.filter((name) => !known.has(name))
    if (fresh.length === 0) return
    await redis.sadd(keys.queues, ...fresh)
    for (const name of fresh) known.add(name)
  }

  return {
    async register() {
      const { host: ownHost, pid: ownPid } = options
      const args = [incarnation, timeoutMs, ownHost, ownPid, BEAT_TTL_MS, supervisor, incarnation, keys.hints, group]
      const touched = [beatKey, keys.generation, keys.due, keys.epoch, ordersKey, keys.restarts]
      const reply = await REGISTER.run(redis, touched, args)
      const [number, host, pid] = reply as [number, string, string]
      if (number === 0) return { taken: true, host, pid }
      generation = number
      if (known.size > 0) await redis.sadd(keys.queues, ...known)
      return { taken: false }
    },
    async beat(beat, late, hint) {
      const names = beat.queues.map(({ queue }) => queue)
      await learn(names)
      const slots = beat.queues.flatMap((queue) => [queue.eligible ? 1 : 0, queue.slots - queue.busy])
      const channel = hint ? keys.hints : ''
      const args = [
        supervisor,
        incarnation,
        generation,
        JSON.stringify(beat),
        timeoutMs,
        late ? 1 : 0,
        channel,
        BEAT_TTL_MS,
        incarnation,
        beat.seq,
        JSON.stringify(lagsOf(beat)),
      ]
      const reply = await BEAT.run(
        redis,
        [beatKey, keys.due, keys.epoch, ordersKey, ...queueKeysOf(names)],
        [...args, ...slots],
      )
      const [verdict, , ...orders] = reply as [number, number, ...string[]]
      return { accepted: verdict === 1, orders }
    },
    async goodbye() {
      await GOODBYE.run(
        redis,
        [beatKey, keys.due, ordersKey, ...queueKeysOf([...known])],
        [supervisor, generation, BEAT_TTL_MS, keys.hints],
      )
    },
  }
}

/** Reads the beats of these supervisors in one call; at most a few hundred at a time. */
export async function readBeats(redis: Redis, keys: FleetKeys, supervisors: readonly string[]): Promise<SeenBeat[]> {
  if (supervisors.length === 0) return []
  const reply = (await READ.run(redis, supervisors.map(keys.beat), [])) as RedisReply[]
  const now = reply[0] as number
  return supervisors.map((supervisor, index) => seenBeat(supervisor, reply[index + 1] as (string | null)[], now))
}

function seenBeat(supervisor: string, fields: (string | null)[], now: number): SeenBeat {
  const [incarnation, generation, at, deadAt, bye, json] = fields
  const parsed = parseBeat(json ?? undefined)
  return {
    supervisor,
    incarnation: incarnation ?? undefined,
    generation: Number(generation ?? 0),
    ageMs: at ? now - Number(at) : 0,
    overdueMs: deadAt ? now - Number(deadAt) : 0,
    bye: bye !== null && bye !== undefined,
    ...parsed,
  }
}

function parseBeat(json: string | undefined): { beat: Beat | undefined; broken: string | undefined } {
  if (json === undefined) return { beat: undefined, broken: undefined }
  try {
    const beat = JSON.parse(json) as Beat
    if (beat.v !== 1 || !Array.isArray(beat.loops) || !Array.isArray(beat.jobs) || !Array.isArray(beat.threads)) {
      return { beat: undefined, broken: `unknown form of beat (v ${String(beat.v)})` }
    }
    return { beat, broken: undefined }
  } catch (error) {
    return { beat: undefined, broken: `beat is no JSON: ${error instanceof Error ? error.message : String(error)}` }
  }
}

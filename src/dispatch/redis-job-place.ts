/** Where BullMQ keeps one job now, and what is written in it, in one Lua call. Reads only; the layout of the keys is BullMQ 6's. */
import type { Redis } from 'ioredis'
import { queueKeys } from '../platform/redis-keys.js'
import { type RedisReply, redisScript } from '../platform/redis-script.js'
import { LUA_QUEUE } from './bullmq-scripts.js'
import type { JobPlace, OpenBreaker } from './explain.js'
import { couldBeJobId } from './job-input.js'

// What stands in a job and where it is, as `placeFrom` reads it; nothing when there is no such job.
export const LUA_PLACE = `
local paused = redis.call('HEXISTS', base .. 'meta', 'paused')
local function placeOf(id, state, number)
  local job = base .. id
  if redis.call('TYPE', job).ok ~= 'hash' then return nil end
  local f = redis.call('HMGET', job, 'timestamp', 'name', 'atm', 'ats', 'stc', 'failedReason', 'opts', 'finishedOn', 'unstuck:kind',
    'unstuck:failedAt', 'unstuck:cooldownUntil', 'unstuck:resets', 'unstuck:parked', 'unstuck:output')
  if not f[1] then return nil end
  local opts = optsOf(f[7])
  local group = groupIn(opts)
  if state == 'delayed' then number = string.format('%.0f', math.floor(number / 4096)) end
  local parked = state == 'delayed' and f[13] and f[13] == f[4]
  local breaker = parked and redis.call('HGET', base .. 'unstuck:breakers', group)
  return {state, tostring(number), now, paused, f[2], f[3], f[4], f[5], f[6], attemptsIn(opts, 0), group, f[8], f[9], f[10], f[11],
    f[12], breaker, f[14]}
end
`

// KEYS: base. ARGV: job id. Taken next is the last of the wait list, then the lowest of the prioritized. A delayed job's
// score is its time in ms * 0x1000. Returns where and its number, then what stands in the job, then its open breaker.
const PLACE = redisScript(`${LUA_QUEUE}${LUA_PLACE}
local id = ARGV[1]
local state, number = 'waiting-children', ''
local delayed, rank = redis.call('ZSCORE', base .. 'delayed', id), redis.call('ZRANK', base .. 'prioritized', id)
local wait, held = redis.call('LPOS', base .. 'wait', id, 'RANK', -1), redis.call('LPOS', base .. 'paused', id, 'RANK', -1)
if redis.call('ZSCORE', base .. 'completed', id) then state = 'completed'
elseif redis.call('ZSCORE', base .. 'failed', id) then state = 'failed'
elseif redis.call('LPOS', base .. 'active', id) then state = 'active'
elseif delayed then state, number = 'delayed', delayed
elseif wait then state, number = 'waiting', redis.call('LLEN', base .. 'wait') - 1 - wait
elseif rank then state, number = 'waiting', redis.call('LLEN', base .. 'wait') + rank
elseif held then state, number = 'waiting', redis.call('LLEN', base .. 'paused') - 1 - held end
return placeOf(id, state, number) or {'not_found', '', now, paused}
`)

export async function readJobPlace(redis: Redis, bullPrefix: string, queue: string, id: string): Promise<JobPlace> {
  // What is no id is never looked for: its key would be another thing's.
  const asked = couldBeJobId(id) ? id : ''
  return placeFrom((await PLACE.run(redis, [queueKeys(bullPrefix, queue).root], [asked])) as RedisReply[])
}

/** @param reply what `placeOf` in Lua returned */
export function placeFrom(reply: RedisReply[]): JobPlace {
  const [state, number, now, paused, name, made, fence, losses] = reply
  return {
    state: state as JobPlace['state'],
    now: Number(now),
    name: textOf(name) ?? '',
    // While a cancellation is under way, it is one less for a moment.
    attemptsMade: Math.max(0, Number(made ?? 0)),
    fence: Number(fence ?? 0),
    losses: Number(losses ?? 0),
    paused: paused === 1,
    ...(state === 'delayed' ? { dueAt: Number(number) } : {}),
    ...(state === 'waiting' ? { ahead: Number(number) } : {}),
    ...writtenIn(reply, state === 'failed'),
  }
}

/** What our fields say; those about a failure are meaningful only while the job is in BullMQ's failed set. */
function writtenIn(reply: RedisReply[], isFailed: boolean) {
  const [lastError, attemptsMax, group, finishedOn, kind, failedAt, cooldownUntil, resets, breaker, output] = reply
    .slice(8)
    .map(textOf)
  const parkedBy = breakerOf(breaker)
  const endedAt = failedAt ?? finishedOn
  return {
    resets: Number(resets ?? 0),
    ...(lastError ? { lastError } : {}),
    ...(Number(attemptsMax) > 0 ? { attemptsMax: Number(attemptsMax) } : {}),
    ...(group ? { group } : {}),
    ...(isFailed && isKind(kind) ? { kind } : {}),
    ...(isFailed && endedAt ? { failedAt: Number(endedAt) } : {}),
    ...(isFailed && kind === 'exhausted' && cooldownUntil ? { cooldownUntil: Number(cooldownUntil) } : {}),
    ...(parkedBy ? { parkedBy } : {}),
    ...(output ? { output } : {}),
  }
}

const KINDS: readonly string[] = ['exhausted', 'permanent', 'poison', 'cancelled'] satisfies NonNullable<JobPlace['kind']>[]

function isKind(text: string | undefined): text is NonNullable<JobPlace['kind']> {
  return text !== undefined && KINDS.includes(text)
}

function breakerOf(json: string | undefined): OpenBreaker | undefined {
  if (json === undefined) return undefined
  const { openedAt, nextProbeAt, failures } = JSON.parse(json) as Partial<OpenBreaker>
  return { openedAt: Number(openedAt ?? 0), nextProbeAt: Number(nextProbeAt ?? 0), failures: Number(failures ?? 0) }
}

function textOf(reply: RedisReply | undefined): string | undefined {
  return typeof reply === 'string' || typeof reply === 'number' ? String(reply) : undefined
}

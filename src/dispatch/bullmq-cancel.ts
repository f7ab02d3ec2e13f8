/**
 * Cancels one job, wherever it is. One that waits is taken here, by a claim of our own, and failed by BullMQ's own verb,
 * so that its parents, its deduplication and its events come out as BullMQ's do. One that runs is only marked, and
 * whoever asked tells its supervisor. Should we die between the two steps, the reaper finds a claim without an owner,
 * returns the job to the line, and its mark makes the next claim end it.
 *
 * Knows BullMQ's keys from the inside, like `bullmq-scripts.ts`; written for the same version (WRITTEN_FOR_BULLMQ).
 */
import { randomUUID } from 'node:crypto'
import { Job, type Queue, UnrecoverableError } from 'bullmq'
import type { Redis } from 'ioredis'
import type { QueueKeys } from '../platform/redis-keys.js'
import { type RedisReply, redisScript } from '../platform/redis-script.js'
import { KEPT_AUDIT, LUA_QUEUE } from './bullmq-scripts.js'
import { type CancelAnswer, type CancelOrder, cancelMark } from './cancel-policy.js'

/** An attempt that has ended is moved within milliseconds, unless its supervisor died in between: then it is orphaned. */
const ENDING_TRIES = 40
const ENDING_PAUSE_MS = 50

/** How long our claim of a waiting job holds, milliseconds: many times what BullMQ's verb takes. */
const CLAIM_MS = 30_000

/**
 * The claim takes the owner's name off, since the job has none now, and one attempt, since BullMQ's verb adds one and a
 * job that did not start has used none.
 * KEYS: base. ARGV: id, mark, token, claim ms, actor, reason, dry run 0/1. Returns the outcome and what belongs to it.
 */
const CANCEL = redisScript(`${LUA_QUEUE}
local id, job, dry = ARGV[1], base .. ARGV[1], ARGV[7] == '1'
if redis.call('TYPE', job).ok ~= 'hash' then return {'unknown'} end
local f = redis.call('HMGET', job, 'timestamp', 'ats', 'atm', 'opts', 'pb', 'rjk', 'unstuck:kind', 'unstuck:cancel', 'unstuck:ended')
if not f[1] then return {'unknown'} end
local group = groupIn(optsOf(f[4]))
local function audit()
  redis.call('XADD', base .. 'unstuck:audit', 'MAXLEN', '~', ${KEPT_AUDIT}, '*', 'at', now, 'action', 'cancel', 'jobId', id,
    'by', 'hand', 'actor', ARGV[5], 'reason', ARGV[6], 'group', group, 'attempts', tonumber(f[3]) or 0)
end
if redis.call('ZSCORE', base .. 'completed', id) then return {'completed'} end
if redis.call('ZSCORE', base .. 'failed', id) then
  if f[7] == 'cancelled' then return {'cancelled_before'} end
  if f[7] ~= 'exhausted' then return {'failed'} end
  if dry then return {'cancelled'} end
  redis.call('ZREM', base .. 'unstuck:exhausted', id)
  redis.call('HSET', job, 'unstuck:kind', 'cancelled', 'failedReason', ARGV[2])
  redis.call('HDEL', job, 'unstuck:cooldownUntil')
  audit()
  return {'cancelled'}
end
if redis.call('LPOS', base .. 'active', id) then
  local incarnation = string.match(f[5] or '', '^[^#]+#(%x+)$')
  if not incarnation or #incarnation ~= 12 then return f[8] and {'cancelled_before'} or {'foreign', f[5] or ''} end
  if f[9] and string.match(f[9], '^(%d+) ') == f[2] then return {'ending'} end
  if not f[8] and not dry then
    redis.call('HSET', job, 'unstuck:cancel', ARGV[2])
    audit()
  end
  return {'running', f[5], f[2] or '0'}
end
local next = f[6] and redis.call('ZSCORE', base .. 'repeat', f[6])
if next and id == 'repeat:' .. f[6] .. ':' .. string.format('%.0f', next) then return {'scheduled', f[6]} end
if redis.call('ZSCORE', base .. 'waiting-children', id) then return {'waiting_for_children'} end
if dry then return {'cancelled'} end
if redis.call('LREM', base .. 'wait', 1, id) + redis.call('LREM', base .. 'paused', 1, id)
  + redis.call('ZREM', base .. 'prioritized', id) + redis.call('ZREM', base .. 'delayed', id) == 0 then return {'unknown'} end
redis.call('ZREM', base .. 'unstuck:parked:' .. group, id)
redis.call('LPUSH', base .. 'active', id)
local of = job .. ':'
redis.call('SET', of .. 'lock', ARGV[3], 'PX', ARGV[4])
redis.call('HDEL', job, 'pb', 'unstuck:parked')
redis.call('HINCRBY', job, 'ats', 1)
redis.call('HINCRBY', job, 'atm', -1)
redis.call('HSET', job, 'unstuck:cancel', ARGV[2], 'unstuck:kind', 'cancelled', 'unstuck:failedAt', now, 'unstuck:group', group)
audit()
return {'taken'}
`)

/**
 * After the move: the mark has done its work (a person who retries the job later means it), and whoever found the queue
 * full for the moment of our claim is woken.
 * KEYS: base. ARGV: id.
 */
const CANCELLED = redisScript(`${LUA_QUEUE}
if redis.call('ZSCORE', base .. 'failed', ARGV[1]) then redis.call('HDEL', base .. ARGV[1], 'unstuck:cancel') end
local meta = redis.call('HMGET', base .. 'meta', 'paused', 'concurrency')
local held = meta[1] or (meta[2] and redis.call('LLEN', base .. 'active') >= tonumber(meta[2]))
local waiting = redis.call('LLEN', base .. 'wait') + redis.call('ZCARD', base .. 'prioritized')
if waiting > 0 and not held then redis.call('ZADD', base .. 'marker', 0, '0') end
return 1
`)

export async function cancelJob(redis: Redis, queue: Queue, keys: QueueKeys, order: CancelOrder): Promise<CancelAnswer> {
  const { id, actor, reason = '', dryRun = false } = order
  const mark = cancelMark(order)
  const token = `cancel:${randomUUID()}`
  const args = [id, mark, token, CLAIM_MS, actor, reason, dryRun ? 1 : 0]
  let reply = (await CANCEL.run(redis, [keys.root], args)) as RedisReply[]
  // Its attempt has just ended and it is on its way somewhere: what it is there is what is cancelled.
  for (let tries = 1; reply[0] === 'ending' && tries < ENDING_TRIES; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, ENDING_PAUSE_MS))
    reply = (await CANCEL.run(redis, [keys.root], args)) as RedisReply[]
  }
  if (reply[0] !== 'taken') return answerOf(reply)
  await failClaimed(queue, id, mark, token)
  await CANCELLED.run(redis, [keys.root], [id])
  return { outcome: 'cancelled' }
}

async function failClaimed(queue: Queue, id: string, mark: string, token: string): Promise<void> {
  const error = new UnrecoverableError(mark)
  // Where in our code that was helps nobody who reads the job.
  error.stack = ''
  const job = await Job.fromId(queue, id)
  await job?.moveToFailed(error, token, false)
}

function answerOf([outcome, detail, fence]: RedisReply[]): CancelAnswer {
  const text = typeof detail === 'string' ? detail : ''
  switch (outcome) {
    case 'running':
      return { outcome, owner: text, fence: Number(fence) }
    case 'ending':
      throw new Error('its attempt ended, and its supervisor has not moved it in 2 s; try again')
    case 'foreign':
      return { outcome, owner: text }
    case 'scheduled':
      return { outcome, scheduler: text }
    default:
      return {
        outcome: outcome as 'cancelled' | 'unknown' | 'completed' | 'failed' | 'cancelled_before' | 'waiting_for_children',
      }
  }
}

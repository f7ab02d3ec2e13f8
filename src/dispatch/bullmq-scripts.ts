/**
 * Our own Lua beside BullMQ's scripts, and the only file that knows BullMQ's keys from the inside. Written for BullMQ
 * 6.7.0; a contract test fails when the installed version is another one, so that somebody reads the changes first.
 */
import { LUA_NOW, redisScript } from '../platform/redis-script.js'

export const WRITTEN_FOR_BULLMQ = '6.7.0'

/**
 * A live owner takes its expired lock again: only while the job is still active, unlocked and of the same attempt.
 * KEYS: lock, active, job, stalled. ARGV: job id, token, lock duration ms, fence.
 * Returns 1 taken, 2 the job is finished already (a reply was lost), 0 it is somebody else's now.
 */
export const RETAKE_LOCK = redisScript(`
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1
end
if holder then return 0 end
local job = redis.call('HMGET', KEYS[3], 'ats', 'finishedOn')
if job[1] ~= ARGV[4] then return 0 end
if not redis.call('LPOS', KEYS[2], ARGV[1]) then
  if job[2] then return 2 end
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SREM', KEYS[4], ARGV[1])
return 1
`)

/**
 * Takes an orphan back: from active to the head of the line, charged with the attempt that its owner cannot finish.
 * Fenced by owner and attempt: a job that anybody claimed since is left alone. Out of attempts, it is marked to fail at
 * its next start (BullMQ's deferred failure), which charges the attempt itself.
 * KEYS: job, lock, active, wait, prioritized, marker, events, meta, stalled.
 * ARGV: job id, owner ('' for none), fence, reason, default attempts, required lock state ('any' or 'none').
 * A job whose record is gone is only taken off the list. Returns 1 taken back, 0 not ours to take.
 */
export const REAP = redisScript(`${LUA_NOW}
local job = redis.call('HMGET', KEYS[1], 'pb', 'ats', 'atm', 'opts', 'priority')
if (job[1] or '') ~= ARGV[2] or (job[2] or '') ~= ARGV[3] then return 0 end
if ARGV[6] == 'none' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if redis.call('LREM', KEYS[3], 1, ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[9], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then return 1 end
local attempts = tonumber(ARGV[5])
local decoded, opts = pcall(cjson.decode, job[4] or '{}')
if decoded and type(opts) == 'table' and tonumber(opts['attempts']) then attempts = tonumber(opts['attempts']) end
if (tonumber(job[3]) or 0) + 1 >= attempts then
  redis.call('HSET', KEYS[1], 'defa', ARGV[4])
else
  redis.call('HINCRBY', KEYS[1], 'atm', 1)
end
redis.call('HINCRBY', KEYS[1], 'stc', 1)
redis.call('HSET', KEYS[1], 'failedReason', ARGV[4])
local priority = tonumber(job[5]) or 0
if priority > 0 then
  redis.call('ZADD', KEYS[5], priority * 0x100000000, ARGV[1])
else
  redis.call('RPUSH', KEYS[4], ARGV[1])
end
local meta = redis.call('HMGET', KEYS[8], 'paused', 'concurrency', 'opts.maxLenEvents')
local held = meta[1] or (meta[2] and redis.call('LLEN', KEYS[3]) >= tonumber(meta[2]))
if not held then redis.call('ZADD', KEYS[6], 0, '0') end
redis.call('XADD', KEYS[7], 'MAXLEN', '~', tonumber(meta[3]) or 10000, '*', 'event', 'waiting', 'jobId', ARGV[1], 'prev', 'active')
return 1
`)

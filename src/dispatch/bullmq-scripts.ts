/**
 * Our own Lua beside BullMQ's scripts, and the only file that knows BullMQ's keys from the inside. Written for BullMQ
 * 6.7.0; a contract test fails when the installed version is another one, so that somebody reads the changes first.
 */
import { LUA_NOW, redisScript } from '../platform/redis-script.js'

export const WRITTEN_FOR_BULLMQ = '6.7.0'

/** About how many audit entries a queue keeps. */
export const KEPT_AUDIT = 10_000

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

/** Names that the scripts below share. KEYS[1] is the queue's base key with its colon. */
export const LUA_QUEUE = `${LUA_NOW}local base = KEYS[1]
local function optsOf(json)
  local decoded, opts = pcall(cjson.decode, json or '{}')
  return decoded and type(opts) == 'table' and opts or {}
end
local function groupIn(opts)
  local own = opts['unstuck']
  return type(own) == 'table' and type(own['group']) == 'string' and own['group'] or ''
end
local function attemptsIn(opts, default)
  local attempts = tonumber(opts['attempts'])
  return attempts and attempts > 0 and attempts or tonumber(default)
end
local function lostOne(job, scheduler)
  redis.call('HINCRBY', job, 'stc', 1)
  if scheduler then redis.call('HINCRBY', base .. 'unstuck:losses', scheduler, 1) end
end
`

/** A job whose claim is this one's still: its lock is ours, or gone while the job is active under the same fence. */
export const LUA_OURS = `
local function isOurs(id, token, fence, ats)
  if ats ~= fence then return false end
  local of = base .. id .. ':'
  local lock = redis.call('GET', of .. 'lock')
  if lock then return lock == token end
  return redis.call('LPOS', base .. 'active', id) and true or false
end
`

/**
 * A group worked: its failures are forgotten, its open breaker closes, and what was exhausted or parked meanwhile is to
 * come back. Returns whether the breaker was open. The order for the release is written in the same step, so that a
 * crash after it loses nothing.
 */
const LUA_WORKED = `
local function worked(group, actor)
  redis.call('DEL', base .. 'unstuck:failures:' .. group)
  if redis.call('HDEL', base .. 'unstuck:breakers', group) == 0 then return false end
  redis.call('RPUSH', base .. 'unstuck:campaigns', cjson.encode({id = 'breaker:' .. group .. ':' .. string.format('%.0f', now),
    by = 'breaker', group = group, before = now, parked = true, actor = actor, cursor = '0'}))
  return true
end
`

/** Failures are forgotten by themselves after so long without another, milliseconds: 7 days. */
const FAILURES_KEPT_MS = 7 * 86_400_000
/** In a queue with more live jobs than this, only breaker.failures opens a breaker: looking through all would cost too much. */
export const LIVE_JOBS_LOOKED_AT = 1000
/** Fewer different jobs than this prove nothing about their group. */
export const FEWEST_FAILURES = 3

/**
 * Has any job of the group that is still to be done not failed yet? Only asked with 3 or more failures.
 */
const LUA_UNTRIED = `
local function someUntried(failed, group)
  local sets = {wait = 'LRANGE', paused = 'LRANGE', active = 'LRANGE', delayed = 'ZRANGE', prioritized = 'ZRANGE'}
  local live = redis.call('LLEN', base .. 'wait') + redis.call('LLEN', base .. 'paused') + redis.call('LLEN', base .. 'active')
    + redis.call('ZCARD', base .. 'delayed') + redis.call('ZCARD', base .. 'prioritized')
  if live > ${LIVE_JOBS_LOOKED_AT} then return true end
  for name, command in pairs(sets) do
    for _, id in ipairs(redis.call(command, base .. name, 0, -1)) do
      if redis.call('SISMEMBER', failed, id) == 0 and groupIn(optsOf(redis.call('HGET', base .. id, 'opts'))) == group then
        return true
      end
    end
  end
  return false
end
`

/**
 * The end of an attempt that did not succeed, decided once: the counters that the retry policy needs, what it means for
 * the group's breaker and for the suspicion of poison, in one step. What follows (a BullMQ verb) finds the job marked
 * as ended, and so does whoever would reset or prove it meanwhile. Asked again after a lost reply it answers the same.
 * KEYS: base. ARGV: id, token, fence, group, is it a failure that may pass 0/1, was its thread lost 0/1, breaker.failures,
 * breaker.probeMs, default attempts.
 * Returns {} when the claim is not ours any more, else attempts made, at most, resets, charged 0/1, opened 0/1, cancel.
 */
export const END_ATTEMPT = redisScript(`${LUA_QUEUE}${LUA_OURS}${LUA_UNTRIED}
local id, fence, group = ARGV[1], ARGV[3], ARGV[4]
local job, breakers = base .. id, base .. 'unstuck:breakers'
local f = redis.call('HMGET', job, 'ats', 'atm', 'opts', 'rjk', 'unstuck:cancel', 'unstuck:resets', 'unstuck:ended')
if not isOurs(id, ARGV[2], fence, f[1]) then return {} end
local charged, opened = 1, 0
local before = f[7] and string.match(f[7], '^' .. fence .. ' (%d)$')
if before then
  charged = tonumber(before)
else
  if ARGV[6] == '1' then lostOne(job, f[4]) end
  local open = redis.call('HGET', breakers, group)
  if open then
    charged = 0
    local breaker = cjson.decode(open)
    if breaker.probe == id and breaker.probeFence == fence then
      breaker.lastProbe, breaker.probe, breaker.probeFence = id, nil, nil
      breaker.nextProbeAt = now + (ARGV[5] == '1' and tonumber(ARGV[8]) or 0)
      redis.call('HSET', breakers, group, cjson.encode(breaker))
    end
    if ARGV[5] == '1' then
      redis.call('ZADD', base .. 'unstuck:parked:' .. group, now, id)
      redis.call('HSET', job, 'unstuck:parked', fence)
    end
  elseif ARGV[5] == '1' then
    local failed = base .. 'unstuck:failures:' .. group
    redis.call('SADD', failed, id)
    redis.call('PEXPIRE', failed, ${FAILURES_KEPT_MS})
    local failures = redis.call('SCARD', failed)
    if failures >= tonumber(ARGV[7]) or (failures >= ${FEWEST_FAILURES} and not someUntried(failed, group)) then
      opened = failures
      redis.call('DEL', failed)
      redis.call('HSET', breakers, group, cjson.encode({openedAt = now, nextProbeAt = now + tonumber(ARGV[8]), failures = failures}))
    end
  end
  redis.call('HSET', job, 'unstuck:ended', fence .. ' ' .. charged)
end
return {tonumber(f[2]) or 0, attemptsIn(optsOf(f[3]), ARGV[9]), tonumber(f[6]) or 0, charged, opened, f[5] or false}
`)

/**
 * May a claimed job of a group start whose breaker is said to be open? Closed meanwhile: yes. Open: as the probe, one at
 * a time, a different job each time unless for a whole further period no other came. Else it is noted as parked.
 * KEYS: base. ARGV: id, fence, group, probeMs. Returns 'run', 'probe' or 'park'.
 */
export const GATE = redisScript(`${LUA_QUEUE}
local id, fence, group, breakers = ARGV[1], ARGV[2], ARGV[3], base .. 'unstuck:breakers'
local open = redis.call('HGET', breakers, group)
if not open then return 'run' end
local breaker = cjson.decode(open)
local out = breaker.probe and redis.call('HGET', base .. breaker.probe, 'ats') == breaker.probeFence
  and redis.call('LPOS', base .. 'active', breaker.probe)
local due = breaker.nextProbeAt + (breaker.lastProbe == id and tonumber(ARGV[4]) or 0)
if not out and now >= due then
  breaker.probe, breaker.probeFence = id, fence
  redis.call('HSET', breakers, group, cjson.encode(breaker))
  return 'probe'
end
redis.call('ZADD', base .. 'unstuck:parked:' .. group, now, id)
redis.call('HSET', base .. id, 'unstuck:parked', fence)
return 'park'
`)

/**
 * Notes how a job that is about to enter BullMQ's failed set may leave it again: before the move, so that a crash
 * between the two loses nothing: not even that somebody cancelled it, whose mark a reset by hand takes off.
 * KEYS: base. ARGV: id, fence, kind, cooldown ms, group, settings. Returns 0 when its attempt was not ended by us.
 */
export const FAIL = redisScript(`${LUA_QUEUE}
local id, kind, job = ARGV[1], ARGV[3], base .. ARGV[1]
local f = redis.call('HMGET', job, 'ats', 'unstuck:ended')
if f[1] ~= ARGV[2] or not f[2] or string.match(f[2], '^(%d+) ') ~= ARGV[2] then return 0 end
redis.call('HSET', job, 'unstuck:kind', kind, 'unstuck:failedAt', now, 'unstuck:group', ARGV[5], 'unstuck:settings', ARGV[6])
redis.call('ZREM', base .. 'unstuck:exhausted', id)
redis.call('ZREM', base .. 'unstuck:permanent', id)
redis.call('HDEL', job, 'unstuck:cooldownUntil')
if kind == 'exhausted' then
  redis.call('HSET', job, 'unstuck:cooldownUntil', now + tonumber(ARGV[4]))
  redis.call('ZADD', base .. 'unstuck:exhausted', now + tonumber(ARGV[4]), id)
elseif kind ~= 'cancelled' then
  redis.call('ZADD', base .. 'unstuck:permanent', now, id)
end
return 1
`)

/** KEYS: base. ARGV: who tells it, then groups. Returns those whose breaker this closed. */
export const WORKED = redisScript(`${LUA_QUEUE}${LUA_WORKED}
local closed = {}
for i = 2, #ARGV do
  if worked(ARGV[i], ARGV[1]) then closed[#closed + 1] = ARGV[i] end
end
return closed
`)

/**
 * The current attempt has been heard of later than provenAfterMs after its start: the dispatch works, so what failed
 * before counts no more, and the breaker closes whose probe it is (one that began before the outage proves nothing about
 * it). Refused for any but the current claim, and once it has ended.
 * KEYS: base. ARGV: id, token, fence, group, maxResets, who tells it. Returns {} when refused, else closed 0/1 and the
 * attempts that were set to 0.
 */
export const PROVEN = redisScript(`${LUA_QUEUE}${LUA_OURS}${LUA_WORKED}
local id, fence, job = ARGV[1], ARGV[3], base .. ARGV[1]
local f = redis.call('HMGET', job, 'ats', 'atm', 'unstuck:resets', 'unstuck:ended', 'unstuck:cancel')
if not isOurs(id, ARGV[2], fence, f[1]) or f[5] then return {} end
if f[4] and string.match(f[4], '^(%d+) ') == fence then return {} end
local open, closed = redis.call('HGET', base .. 'unstuck:breakers', ARGV[4]), 0
local breaker = open and cjson.decode(open) or {}
if breaker.probe == id and breaker.probeFence == fence and worked(ARGV[4], ARGV[6]) then closed = 1 end
local made = tonumber(f[2]) or 0
if made == 0 or (tonumber(f[3]) or 0) >= tonumber(ARGV[5]) then return {closed, 0} end
redis.call('HSET', job, 'atm', 0)
redis.call('HINCRBY', job, 'unstuck:resets', 1)
redis.call('XADD', base .. 'unstuck:audit', 'MAXLEN', '~', ${KEPT_AUDIT}, '*', 'at', now, 'action', 'reset', 'jobId', id,
  'by', 'heartbeat', 'actor', ARGV[6], 'reason', '', 'group', ARGV[4], 'attempts', made)
return {closed, made}
`)

/**
 * Takes an orphan back: from active to the head of the line, charged with the attempt that its owner cannot finish.
 * Fenced by owner and attempt: a job that anybody claimed since is left alone. Out of attempts, or cancelled meanwhile,
 * it is marked to fail at its next start (BullMQ's deferred failure), which charges the attempt itself. While the
 * breaker of its group is open it is not charged.
 * KEYS: base. ARGV: id, owner ('' for none), fence, reason, default attempts, required lock state ('any' or 'none'),
 * was it lost with its supervisor 0/1.
 * A job whose record is gone is only taken off the list. Returns 1 taken back, 0 not ours to take.
 */
export const REAP = redisScript(`${LUA_QUEUE}
local id, job = ARGV[1], base .. ARGV[1]
local of = job .. ':'
local f = redis.call('HMGET', job, 'pb', 'ats', 'atm', 'opts', 'priority', 'rjk', 'unstuck:cancel')
if (f[1] or '') ~= ARGV[2] or (f[2] or '') ~= ARGV[3] then return 0 end
if ARGV[6] == 'none' and redis.call('EXISTS', of .. 'lock') == 1 then return 0 end
if redis.call('LREM', base .. 'active', 1, id) == 0 then return 0 end
redis.call('DEL', of .. 'lock')
redis.call('SREM', base .. 'stalled', id)
if redis.call('EXISTS', job) == 0 then return 1 end
local opts = optsOf(f[4])
local charged = redis.call('HEXISTS', base .. 'unstuck:breakers', groupIn(opts)) == 0
if f[7] then
  redis.call('HSET', job, 'defa', f[7])
elseif charged and (tonumber(f[3]) or 0) + 1 >= attemptsIn(opts, ARGV[5]) then
  redis.call('HSET', job, 'defa', ARGV[4])
elseif charged then
  redis.call('HINCRBY', job, 'atm', 1)
end
if ARGV[7] == '1' then lostOne(job, f[6]) end
redis.call('HSET', job, 'failedReason', ARGV[4])
local priority = tonumber(f[5]) or 0
if priority > 0 then
  redis.call('ZADD', base .. 'prioritized', priority * 0x100000000, id)
else
  redis.call('RPUSH', base .. 'wait', id)
end
local meta = redis.call('HMGET', base .. 'meta', 'paused', 'concurrency', 'opts.maxLenEvents')
local held = meta[1] or (meta[2] and redis.call('LLEN', base .. 'active') >= tonumber(meta[2]))
if not held then redis.call('ZADD', base .. 'marker', 0, '0') end
redis.call('XADD', base .. 'events', 'MAXLEN', '~', tonumber(meta[3]) or 10000, '*', 'event', 'waiting', 'jobId', id, 'prev', 'active')
return 1
`)

/**
 * The Lua of resets, beside BullMQ's scripts: like bullmq-scripts.ts it knows BullMQ's keys from the inside, was written
 * for the version that stands there (WRITTEN_FOR_BULLMQ), and follows its reprocessJob and moveToDelayed: a job leaves
 * the failed set for `delayed`, at the next free slot of the queue's pace. The pace is one number in Redis, shared by
 * everybody, so that no number of resets starts more than release.perSecond.
 *
 * All state of a job lies in its own hash. An entry of an index is believed only when that hash and BullMQ's failed set
 * agree with it. KEYS[1] of every script is the queue's base key with its colon.
 */
import { redisScript } from '../platform/redis-script.js'
import { KEPT_AUDIT, LUA_QUEUE } from './bullmq-scripts.js'

/**
 * The pace: `slot` is the next free moment. Kept as "slot written": when Redis TIME went back since (a failover), the
 * slot goes back with it. A batch stops when the next slot lies further ahead than it may look.
 */
const LUA_PACE = `
math.randomseed(tonumber(t[2]))
local gap, slot, horizon, spent = 0, now, now, false
local function openPace(perSecond, aheadMs)
  gap, horizon = 1000 / tonumber(perSecond), now + tonumber(aheadMs)
  local at, written = string.match(redis.call('GET', base .. 'unstuck:release') or '', '^(%S+) (%S+)$')
  slot = math.max(now, (tonumber(at) or 0) - math.max(0, (tonumber(written) or 0) - now))
end
local function isHeld() return slot > horizon end
local maxEvents = tonumber(redis.call('HGET', base .. 'meta', 'opts.maxLenEvents')) or 10000
local function putBack(id)
  local at = math.floor(slot)
  redis.call('ZADD', base .. 'delayed', math.floor(slot * 4096), id)
  redis.call('HSET', base .. id, 'delay', at - now)
  redis.call('XADD', base .. 'events', 'MAXLEN', '~', maxEvents, '*', 'event', 'delayed', 'jobId', id, 'delay', at)
  slot, spent = slot + gap * (0.8 + 0.4 * math.random()), true
  return at - now
end
local function closePace()
  if not spent then return end
  redis.call('SET', base .. 'unstuck:release', string.format('%.3f %.0f', slot, now), 'PX', math.ceil(slot - now) + 60000)
  local first = redis.call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
  redis.call('ZADD', base .. 'marker', first[2] / 4096, '1')
end
`

/** What every reset does. `who` is {by, actor, reason, attempts (default), maxResets (only where one try may be all)}. */
export const LUA_RESET = `${LUA_QUEUE}${LUA_PACE}
local function renew(job, who, scheduler)
  if who.by == 'cooldown' or who.by == 'heartbeat' then
    redis.call('HINCRBY', job, 'unstuck:resets', 1)
  else
    redis.call('HDEL', job, 'unstuck:resets')
  end
  if who.by ~= 'hand' and who.by ~= 'settings' then return end
  redis.call('HSET', job, 'stc', 0)
  redis.call('HDEL', job, 'unstuck:cancel')
  if scheduler then redis.call('HDEL', base .. 'unstuck:losses', scheduler) end
end
local function audit(id, who, group, made)
  redis.call('XADD', base .. 'unstuck:audit', 'MAXLEN', '~', ${KEPT_AUDIT}, '*', 'at', now, 'action', 'reset', 'jobId', id,
    'by', who.by, 'actor', who.actor, 'reason', who.reason or '', 'group', group, 'attempts', made)
end
-- As BullMQ's reprocessJob: a parent that counted it as failed waits for it again.
local function backToParent(job, parent)
  if not parent or redis.call('EXISTS', parent) == 0 then return end
  local of = parent .. ':'
  if redis.call('ZREM', of .. 'unsuccessful', job) == 1 or redis.call('HDEL', of .. 'failed', job) == 1 then
    redis.call('SADD', of .. 'dependencies', job)
  end
end
local function backInLine(id, job)
  local of = job .. ':'
  if redis.call('SCARD', of .. 'dependencies') == 0 then return putBack(id) end
  redis.call('ZADD', base .. 'waiting-children', now, id)
  redis.call('XADD', base .. 'events', 'MAXLEN', '~', maxEvents, '*', 'event', 'waiting-children', 'jobId', id, 'prev', 'failed')
  return 0
end
local function isFailed(id) return redis.call('ZSCORE', base .. 'failed', id) and true or false end
local function dropIndexed(id)
  redis.call('ZREM', base .. 'unstuck:exhausted', id)
  redis.call('ZREM', base .. 'unstuck:permanent', id)
end
-- Only for a job in BullMQ's failed set. Returns the attempts it had made, and in how many ms it may run.
local function resetFailed(id, who)
  local job = base .. id
  local f = redis.call('HMGET', job, 'atm', 'opts', 'unstuck:resets', 'rjk', 'parentKey')
  local opts, made = optsOf(f[2]), tonumber(f[1]) or 0
  local oneTry = who.maxResets and (tonumber(f[3]) or 0) >= who.maxResets
  redis.call('ZREM', base .. 'failed', id)
  dropIndexed(id)
  redis.call('HDEL', job, 'finishedOn', 'processedOn', 'defa', 'unstuck:kind', 'unstuck:failedAt', 'unstuck:cooldownUntil',
    'unstuck:group', 'unstuck:settings', 'unstuck:parked')
  redis.call('HSET', job, 'atm', oneTry and attemptsIn(opts, who.attempts) - 1 or 0)
  renew(job, who, f[4])
  backToParent(job, f[5])
  audit(id, who, groupIn(opts), made)
  return made, backInLine(id, job)
end
-- An entry whose job is neither in the failed set nor about to be moved there.
local function isStale(id)
  return not isFailed(id) and not redis.call('LPOS', base .. 'active', id)
end
`

/**
 * One job, wherever it is. ARGV: perSecond, ahead ms, id, by, actor, reason.
 * Returns {'reset', attempts before, runs in ms}, or {why not}.
 */
export const RESET_JOB = redisScript(`${LUA_RESET}
local id, job = ARGV[3], base .. ARGV[3]
local who = {by = ARGV[4], actor = ARGV[5], reason = ARGV[6]}
local f = redis.call('TYPE', job).ok == 'hash' and redis.call('HMGET', job, 'timestamp', 'atm', 'rjk', 'opts', 'defa') or {}
if not f[1] then
  dropIndexed(id)
  return {'unknown'}
end
openPace(ARGV[1], ARGV[2])
if isFailed(id) then
  local made, runsIn = resetFailed(id, who)
  closePace()
  return {'reset', made, runsIn}
end
if redis.call('ZSCORE', base .. 'completed', id) then return {'completed'} end
if redis.call('LPOS', base .. 'active', id) then return {'running'} end
if redis.call('ZSCORE', base .. 'waiting-children', id) then return {'waiting_for_children'} end
local made, group, of, runsIn = tonumber(f[2]) or 0, groupIn(optsOf(f[4])), job .. ':', 0
-- BullMQ's own deferred failure, of a parent whose child failed, is not ours to take off.
local doomed = f[5] and redis.call('ZCARD', of .. 'unsuccessful') == 0
if made == 0 and not doomed then return {'fresh'} end
local due = redis.call('ZSCORE', base .. 'delayed', id)
local waits = due or redis.call('ZSCORE', base .. 'prioritized', id) or redis.call('LPOS', base .. 'wait', id)
  or redis.call('LPOS', base .. 'paused', id)
if not waits then return {'unknown'} end
redis.call('HSET', job, 'atm', 0)
if doomed then redis.call('HDEL', job, 'defa') end
renew(job, who, f[3])
audit(id, who, group, made)
if due then
  redis.call('ZREM', base .. 'unstuck:parked:' .. group, id)
  redis.call('HDEL', job, 'unstuck:parked')
  runsIn = math.max(0, math.floor(due / 4096) - now)
  if due / 4096 > slot then runsIn = putBack(id) end
  closePace()
end
return {'reset', made, runsIn}
`)

/**
 * Exhausted jobs whose cooldown is over. ARGV: perSecond, ahead ms, actor, maxResets, default attempts, most.
 * Returns how many were reset, and 1 when there may be more that the pace allows now.
 */
export const RELEASE_DUE = redisScript(`${LUA_RESET}
openPace(ARGV[1], ARGV[2])
local who = {by = 'cooldown', actor = ARGV[3], maxResets = tonumber(ARGV[4]), attempts = ARGV[5]}
local index, most, count = base .. 'unstuck:exhausted', tonumber(ARGV[6]), 0
local ids = redis.call('ZRANGE', index, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
for _, id in ipairs(ids) do
  if isHeld() then break end
  if isFailed(id) and redis.call('HGET', base .. id, 'unstuck:kind') == 'exhausted' then
    resetFailed(id, who)
    count = count + 1
  elseif isFailed(id) or isStale(id) then
    redis.call('ZREM', index, id)
  end
end
closePace()
return {count, (#ids == most and not isHeld()) and 1 or 0}
`)

/**
 * For each open breaker whose probe is due and not out: the job parked longest that was not the last probe comes now, so
 * that somebody takes it. The last probe itself comes when no other did for a whole further period. A job already on its
 * way is waited for. ARGV: probe ms. Returns how many were called.
 */
export const PROMOTE_PROBES = redisScript(`${LUA_QUEUE}
local delayed, probeMs = base .. 'delayed', tonumber(ARGV[1])
local function isOut(breaker)
  return breaker.probe and redis.call('HGET', base .. breaker.probe, 'ats') == tostring(breaker.probeFence)
    and redis.call('LPOS', base .. 'active', breaker.probe)
end
-- 'gone' (claimed or ended since), 'coming', or 'parked'.
local function stateOf(id)
  local f = redis.call('HMGET', base .. id, 'unstuck:parked', 'ats')
  if not f[1] or f[1] ~= f[2] then return 'gone' end
  local due = redis.call('ZSCORE', delayed, id)
  if due then return tonumber(due) > (now + 1) * 4096 and 'parked' or 'coming' end
  return (redis.call('ZSCORE', base .. 'failed', id) or redis.call('ZSCORE', base .. 'completed', id)) and 'gone' or 'coming'
end
local function choose(index, lastProbe, mayRepeat)
  local last
  for _, id in ipairs(redis.call('ZRANGE', index, 0, 99)) do
    local state = stateOf(id)
    if state == 'coming' then return nil end
    if state == 'gone' then
      redis.call('ZREM', index, id)
    elseif id ~= lastProbe then
      return id
    else
      last = id
    end
  end
  return mayRepeat and last or nil
end
local called, breakers = 0, redis.call('HGETALL', base .. 'unstuck:breakers')
for i = 1, #breakers, 2 do
  local decoded, breaker = pcall(cjson.decode, breakers[i + 1])
  local dueAt = decoded and type(breaker) == 'table' and (tonumber(breaker.nextProbeAt) or 0)
  if dueAt and now >= dueAt and not isOut(breaker) then
    local id = choose(base .. 'unstuck:parked:' .. breakers[i], breaker.lastProbe, now >= dueAt + probeMs)
    if id then
      redis.call('ZADD', delayed, now * 4096, id)
      redis.call('HSET', base .. id, 'delay', 0)
      redis.call('ZADD', base .. 'marker', redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2] / 4096, '1')
      called = called + 1
    end
  end
end
return called
`)

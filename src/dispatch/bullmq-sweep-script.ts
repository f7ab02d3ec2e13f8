/**
 * The Lua that holds the indexes of failed jobs to BullMQ's failed set: see bullmq-reset-scripts.ts, whose resets it makes.
 */
import { redisScript } from '../platform/redis-script.js'
import { LUA_RESET } from './bullmq-reset-scripts.js'

/**
 * One page of BullMQ's failed set and of both indexes. Puts into an index what failed here and is in none (BullMQ fails
 * some jobs by itself; a crash came between), takes out what is not failed any more, and resets what failed under other
 * settings, at the pace, and not again for the same settings within a cooldown: while two versions run side by side each
 * would reset the other's failures for ever. Of the cursors '' leaves a set out, 'done' comes back when it is through, and
 * one that the pace held comes back as it went in.
 * ARGV: perSecond, ahead ms, actor, page size, cursors of failed, exhausted, permanent, settings, cooldown ms, slow retry
 * ms, maxResets, default attempts. Returns {three cursors, held 0/1, settings of the last whole sweep, reset, mended}.
 */
export const SWEEP = redisScript(`${LUA_RESET}
openPace(ARGV[1], ARGV[2])
local who, size, settings = {by = 'settings', actor = ARGV[3]}, ARGV[4], ARGV[8]
local cooldownMs, slowRetryMs, maxResets = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local held, count, mended = 0, 0, 0

local function isOurs(owner)
  local incarnation = owner and string.match(owner, '^[^#]+#(%x+)$')
  return incarnation and #incarnation == 12
end
local function classify(id)
  local f = redis.call('HMGET', base .. id, 'atm', 'opts', 'finishedOn', 'unstuck:resets')
  local opts, failedAt = optsOf(f[2]), math.min(now, tonumber(f[3]) or now)
  local kind = (tonumber(f[1]) or 0) >= attemptsIn(opts, ARGV[12]) and 'exhausted' or 'permanent'
  redis.call('HSET', base .. id, 'unstuck:kind', kind, 'unstuck:failedAt', failedAt, 'unstuck:group', groupIn(opts),
    'unstuck:settings', settings)
  if kind == 'exhausted' then
    local cooldown = (tonumber(f[4]) or 0) >= maxResets and slowRetryMs or cooldownMs
    redis.call('HSET', base .. id, 'unstuck:cooldownUntil', failedAt + cooldown)
  end
  return kind
end
local indexOf = {exhausted = base .. 'unstuck:exhausted', permanent = base .. 'unstuck:permanent', poison = base .. 'unstuck:permanent'}
local timeOf = {exhausted = 'unstuck:cooldownUntil', permanent = 'unstuck:failedAt', poison = 'unstuck:failedAt'}
-- A page of a set, as ids, and the cursor after it.
local function pageOf(set, cursor)
  local page, ids = redis.call('ZSCAN', set, cursor, 'COUNT', size), {}
  for i = 1, #page[2], 2 do ids[#ids + 1] = page[2][i] end
  return ids, page[1] == '0' and 'done' or page[1]
end
-- Which of them are in a set: one call for a page costs a third of one for each.
local function scoresIn(set, ids)
  return #ids > 0 and redis.call('ZMSCORE', set, unpack(ids)) or {}
end
local function sweepFailed(cursor)
  if cursor == '' then return '' end
  local ids, after = pageOf(base .. 'failed', cursor)
  local noted = {[indexOf.exhausted] = scoresIn(indexOf.exhausted, ids), [indexOf.permanent] = scoresIn(indexOf.permanent, ids)}
  for i, id in ipairs(ids) do
    local f = redis.call('HMGET', base .. id, 'unstuck:kind', 'pb')
    local kind = f[1] or (isOurs(f[2]) and classify(id))
    local index = kind and indexOf[kind]
    if index and not noted[index][i] then
      redis.call('ZADD', index, tonumber(redis.call('HGET', base .. id, timeOf[kind])) or now, id)
      mended = mended + 1
    end
  end
  return after
end
local function isOutdated(f)
  if not f[2] or f[2] == '' or f[2] == settings then return false end
  local of, at = string.match(f[3] or '', '^(%S+) (%d+)$')
  return of ~= settings or tonumber(at) <= now - cooldownMs
end
local function sweepIndex(index, cursor)
  if cursor == '' then return '' end
  local ids, after = pageOf(index, cursor)
  local failed = scoresIn(base .. 'failed', ids)
  for i, id in ipairs(ids) do
    if failed[i] then
      local f = redis.call('HMGET', base .. id, 'unstuck:kind', 'unstuck:settings', 'unstuck:settingsReset')
      if indexOf[f[1]] ~= index then
        redis.call('ZREM', index, id)
        mended = mended + 1
      elseif isOutdated(f) then
        if isHeld() then held = 1 return cursor end
        resetFailed(id, who)
        redis.call('HSET', base .. id, 'unstuck:settingsReset', settings .. ' ' .. string.format('%.0f', now))
        count = count + 1
      end
    elseif isStale(id) then
      redis.call('ZREM', index, id)
      mended = mended + 1
    end
  end
  return after
end

local failed = sweepFailed(ARGV[5])
local exhausted = sweepIndex(indexOf.exhausted, ARGV[6])
local permanent = sweepIndex(indexOf.permanent, ARGV[7])
closePace()
return {failed, exhausted, permanent, held, redis.call('GET', base .. 'unstuck:settings') or '', count, mended}
`)

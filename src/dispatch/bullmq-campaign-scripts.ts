/**
 * The Lua of bulk resets: ordered in one place, worked off in pages by whoever reconciles the queue, in the order in which
 * they came. See bullmq-reset-scripts.ts, whose resets it makes.
 */
import { redisScript } from '../platform/redis-script.js'
import { LUA_RESET } from './bullmq-reset-scripts.js'
import { LUA_QUEUE } from './bullmq-scripts.js'

/**
 * One page of the oldest bulk reset. Its stages are the parked (when the breaker closed), the exhausted and, when it says
 * so, those failed for good; how far it came is kept in its cursor ("STAGE CURSOR"), so that anybody may go on with it.
 * ARGV: perSecond, ahead ms, page size. Returns {'idle' | 'broken' | 'held' | 'more', by, how many were reset}.
 */
export const WORK_CAMPAIGN = redisScript(`${LUA_RESET}
openPace(ARGV[1], ARGV[2])
local list, size = base .. 'unstuck:campaigns', tonumber(ARGV[3])
local head = redis.call('LINDEX', list, 0)
if not head then return {'idle', '', 0} end
local decoded, campaign = pcall(cjson.decode, head)
if not decoded or type(campaign) ~= 'table' or type(campaign.by) ~= 'string' or type(campaign.before) ~= 'number' then
  redis.call('LPOP', list)
  return {'broken', '', 0}
end
local group = type(campaign.group) == 'string' and campaign.group or nil
local who = {by = campaign.by, actor = tostring(campaign.actor or ''), reason = type(campaign.reason) == 'string' and campaign.reason or ''}
local stages, count, waiting = {}, 0, false
if campaign.parked == true and group then stages[#stages + 1] = 'parked' end
stages[#stages + 1] = 'exhausted'
if campaign.permanent == true then stages[#stages + 1] = 'permanent' end
local stage, cursor = string.match(tostring(campaign.cursor or ''), '^(%a+) (%d+)$')
local at = 1
for i, name in ipairs(stages) do
  if name == stage then at = i end
end
if stages[at] ~= stage then stage, cursor = stages[1], '0' end

-- The longest parked first. Only those that were not claimed since; they keep their attempts. One that is still active
-- under the claim that parked it is about to be moved: it stays listed, and so the order is not done.
local function workParked()
  local index, moving = base .. 'unstuck:parked:' .. group, 0
  local ids = redis.call('ZRANGE', index, '-inf', campaign.before, 'BYSCORE', 'LIMIT', 0, size)
  for _, id in ipairs(ids) do
    if isHeld() then return '0' end
    local f = redis.call('HMGET', base .. id, 'unstuck:parked', 'ats')
    local parked = f[1] and f[1] == f[2]
    if parked and redis.call('LPOS', base .. 'active', id) then
      moving = moving + 1
    else
      redis.call('ZREM', index, id)
      if parked and redis.call('ZSCORE', base .. 'delayed', id) then
        redis.call('HDEL', base .. id, 'unstuck:parked')
        putBack(id)
      end
    end
  end
  if moving > 0 then waiting = true end
  return #ids < size and moving == 0 and 'done' or '0'
end
local function isMeant(id)
  local f = redis.call('HMGET', base .. id, 'unstuck:failedAt', 'unstuck:group')
  if (tonumber(f[1]) or 0) > campaign.before then return false end
  return (not group or (f[2] or '') == group) and isFailed(id)
end
local function workIndex()
  local page = redis.call('ZSCAN', base .. 'unstuck:' .. stage, cursor, 'COUNT', size)
  for i = 1, #page[2], 2 do
    local id = page[2][i]
    if isMeant(id) then
      if isHeld() then return cursor end
      resetFailed(id, who)
      count = count + 1
    end
  end
  return page[1] == '0' and 'done' or page[1]
end

local reached = stage == 'parked' and workParked() or stage ~= 'parked' and workIndex()
closePace()
if reached == 'done' then stage, reached = stages[at + 1], '0' end
if stage then
  campaign.cursor = stage .. ' ' .. reached
  redis.call('LSET', list, 0, cjson.encode(campaign))
else
  redis.call('LPOP', list)
end
return {(isHeld() or waiting) and 'held' or 'more', campaign.by, count}
`)

/** Writes a bulk reset. ARGV: campaign (JSON without `before`). Returns how many jobs it will look at. */
export const ORDER_CAMPAIGN = redisScript(`${LUA_QUEUE}
local campaign = cjson.decode(ARGV[1])
campaign.before = now
redis.call('RPUSH', base .. 'unstuck:campaigns', cjson.encode(campaign))
local jobs = redis.call('ZCARD', base .. 'unstuck:exhausted')
if campaign.permanent then jobs = jobs + redis.call('ZCARD', base .. 'unstuck:permanent') end
return jobs
`)

/**
 * Compares the number of each group's last restart with the one worked off here, and orders the resets of a newer one:
 * once, however many ask. A supervisor without a group stands for all. ARGV: actor, then group and number in turn.
 * Returns how many were ordered.
 */
export const START_RESTARTS = redisScript(`${LUA_QUEUE}
local started = 0
for i = 2, #ARGV, 2 do
  local group, number = ARGV[i], ARGV[i + 1]
  if (tonumber(redis.call('HGET', base .. 'unstuck:restarts', group)) or 0) < tonumber(number) then
    redis.call('HSET', base .. 'unstuck:restarts', group, number)
    if redis.call('ZCARD', base .. 'unstuck:exhausted') > 0 then
      local campaign = {id = 'restart:' .. group .. ':' .. number, by = 'restart', before = now, actor = ARGV[1], cursor = '0'}
      if group ~= '' then campaign.group = group end
      redis.call('RPUSH', base .. 'unstuck:campaigns', cjson.encode(campaign))
      started = started + 1
    end
  end
end
return started
`)

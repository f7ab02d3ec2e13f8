/**
 * The records of sessions, beside BullMQ's scripts. Whoever writes about a session writes under the claim of its attempt,
 * checked in the same step: an older fence changes nothing.
 *
 * KEYS: base, the host's sessions.
 */
import { redisScript } from '../platform/redis-script.js'
import { LUA_OURS, LUA_QUEUE } from './bullmq-scripts.js'

const LUA_RECORD = `${LUA_QUEUE}${LUA_OURS}
local sessions = KEYS[2]
local function recordOf(id)
  local json = redis.call('HGET', sessions, id)
  local decoded, record = pcall(cjson.decode, json or '')
  return json, decoded and type(record) == 'table' and record or {}
end
`

/** ARGV: id, token, fence, record. Returns 1 written, 0 the claim is not ours, or the record of another session. */
export const OPEN_SESSION = redisScript(`${LUA_RECORD}
if not isOurs(ARGV[1], ARGV[2], ARGV[3], redis.call('HGET', base .. ARGV[1], 'ats')) then return 0 end
local json, record = recordOf(ARGV[1])
if json and tostring(record.fence) ~= ARGV[3] then return json end
redis.call('HSET', sessions, ARGV[1], ARGV[4])
return 1
`)

/** ARGV: id, token, fence, record. Returns whether the record and the claim were ours still. */
export const UPDATE_SESSION = redisScript(`${LUA_RECORD}
if not isOurs(ARGV[1], ARGV[2], ARGV[3], redis.call('HGET', base .. ARGV[1], 'ats')) then return 0 end
local _, record = recordOf(ARGV[1])
if tostring(record.fence) ~= ARGV[3] then return 0 end
redis.call('HSET', sessions, ARGV[1], ARGV[4])
return 1
`)

/** ARGV: id, fence, owner. Returns whether that record is there, and another owner's. */
export const SESSION_TAKEN = redisScript(`${LUA_RECORD}
local _, record = recordOf(ARGV[1])
return tostring(record.fence) == ARGV[2] and record.owner ~= ARGV[3] and 1 or 0
`)

/** ARGV: id, fence, owner. */
export const CLOSE_SESSION = redisScript(`${LUA_RECORD}
local _, record = recordOf(ARGV[1])
if tostring(record.fence) ~= ARGV[2] or record.owner ~= ARGV[3] then return 0 end
return redis.call('HDEL', sessions, ARGV[1])
`)

/** ARGV: id, token, fence. */
export const HOLDS = redisScript(`${LUA_QUEUE}${LUA_OURS}
return isOurs(ARGV[1], ARGV[2], ARGV[3], redis.call('HGET', base .. ARGV[1], 'ats')) and 1 or 0
`)

/** ARGV: id, fence, owner before, owner now. Returns whether it was as it was seen. */
export const TAKE_OVER_SESSION = redisScript(`${LUA_RECORD}
local _, record = recordOf(ARGV[1])
if tostring(record.fence) ~= ARGV[2] or record.owner ~= ARGV[3] then return 0 end
record.owner = ARGV[4]
redis.call('HSET', sessions, ARGV[1], cjson.encode(record))
return 1
`)

/**
 * An attempt goes on under a new owner with its session: same fence, same attempt. Refused once anybody took the job
 * back, cancelled it or ended the attempt.
 * ARGV: id, fence, owner before, owner now, token, lock duration ms.
 */
export const ADOPT_SESSION = redisScript(`${LUA_RECORD}
local id, fence, job = ARGV[1], ARGV[2], base .. ARGV[1]
local of = job .. ':'
local _, record = recordOf(id)
if tostring(record.fence) ~= fence or record.owner ~= ARGV[3] then return 0 end
local f = redis.call('HMGET', job, 'ats', 'pb', 'unstuck:ended', 'unstuck:cancel')
if f[1] ~= fence or f[2] ~= ARGV[3] or f[4] then return 0 end
if f[3] and string.match(f[3], '^(%d+) ') == fence then return 0 end
if not redis.call('LPOS', base .. 'active', id) then return 0 end
record.owner = ARGV[4]
redis.call('HSET', sessions, id, cjson.encode(record))
redis.call('HSET', job, 'pb', ARGV[4])
redis.call('SET', of .. 'lock', ARGV[5], 'PX', ARGV[6])
redis.call('SREM', base .. 'stalled', id)
return 1
`)

/** ARGV: id, fence, text. */
export const KEEP_OUTPUT = redisScript(`${LUA_QUEUE}
if redis.call('HGET', base .. ARGV[1], 'ats') ~= ARGV[2] then return 0 end
redis.call('HSET', base .. ARGV[1], 'unstuck:output', ARGV[3])
return 1
`)

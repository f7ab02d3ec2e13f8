/** One stretch of one of BullMQ's sets with what stands in its jobs, in one Lua call. Reads only. */
import type { Redis } from 'ioredis'
import { queueKeys } from '../platform/redis-keys.js'
import { type RedisReply, redisScript } from '../platform/redis-script.js'
import { LUA_QUEUE } from './bullmq-scripts.js'
import type { JobPlace } from './explain.js'
import type { JobListSource, JobSet, JobSlice, Mark } from './job-list.js'
import { LUA_PLACE, placeFrom } from './redis-job-place.js'

type Order = 'list' | 'soonest' | 'newest'

const sets: Readonly<Record<JobSet, { readonly state: JobPlace['state']; readonly order: Order }>> = {
  active: { state: 'active', order: 'list' },
  wait: { state: 'waiting', order: 'list' },
  prioritized: { state: 'waiting', order: 'soonest' },
  paused: { state: 'waiting', order: 'list' },
  'waiting-children': { state: 'waiting-children', order: 'soonest' },
  delayed: { state: 'delayed', order: 'soonest' },
  exhausted: { state: 'failed', order: 'soonest' },
  failed: { state: 'failed', order: 'newest' },
  completed: { state: 'completed', order: 'newest' },
}

/** In a list the job that was shown last is looked for among so many before its old place: others were taken meanwhile. */
const LOOKED_BACK = 1000

/** Of an error in a list so many bytes are shown. */
const SHOWN_ERROR_BYTES = 2000

// A list's end is what is taken next: places count from there. Of a job that is not where it was, its old place holds.
// KEYS: base, set. ARGV: state, order, count, id and place or score of the last one shown ('' for none).
// Returns whether the set ends here, then for each job: id, its place or score, what stands in it (nothing: gone).
const SLICE = redisScript(`${LUA_QUEUE}${LUA_PLACE}
local set, state, order, count, anchor, at = KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local ids, first, size = {}, 0, 0
if order == 'list' then
  size = redis.call('LLEN', set)
  if at ~= '' then
    first = math.max(0, math.min(math.floor(tonumber(at)) + 1, size))
    local from = size - first
    local window = first > 0 and redis.call('LRANGE', set, from, math.min(from + ${LOOKED_BACK}, size) - 1) or {}
    for i = 1, #window do
      if window[i] == anchor then first = size - (from + i - 1) break end
    end
  end
  if first < size then
    local last = size - 1 - first
    local taken = redis.call('LRANGE', set, math.max(0, last - count + 1), last)
    for i = #taken, 1, -1 do ids[#ids + 1] = taken[i] end
  end
else
  local isNewest = order == 'newest'
  size = redis.call('ZCARD', set)
  if at ~= '' then
    if redis.call('ZSCORE', set, anchor) == at then first = redis.call(isNewest and 'ZREVRANK' or 'ZRANK', set, anchor) + 1
    elseif isNewest then first = redis.call('ZCOUNT', set, '(' .. at, '+inf')
    else first = redis.call('ZCOUNT', set, '-inf', '(' .. at) end
  end
  ids = redis.call(isNewest and 'ZREVRANGE' or 'ZRANGE', set, first, first + count - 1)
end
local before = set == base .. 'prioritized' and redis.call('LLEN', base .. 'wait') or 0
local rows = {first + #ids >= size and 1 or 0}
for i, id in ipairs(ids) do
  local place = tostring(first + i - 1)
  local here = order == 'list' and place or redis.call('ZSCORE', set, id)
  local isFailed = state ~= 'failed' or redis.call('ZSCORE', base .. 'failed', id)
  local found = isFailed and placeOf(id, state, state == 'delayed' and here or state == 'waiting' and before + first + i - 1 or '')
  if found then
    found[18] = false
    if found[9] then found[9] = string.sub(found[9], 1, ${SHOWN_ERROR_BYTES}) end
  end
  rows[#rows + 1] = {id, here, found or false}
end
return rows
`)

export function readJobSlices(redis: Redis, bullPrefix: string, queue: string): JobListSource['readSlice'] {
  const keys = queueKeys(bullPrefix, queue)
  return async (set, behind, count) => {
    const { state, order } = sets[set]
    const key = set === 'exhausted' ? keys.exhausted : `${keys.root}${set}`
    const reply = await SLICE.run(redis, [keys.root, key], [state, order, count, behind?.id ?? '', behind?.at ?? ''])
    return sliceFrom(reply as RedisReply[])
  }
}

function sliceFrom([isLast, ...rows]: RedisReply[]): JobSlice {
  return { isLast: isLast === 1, rows: rows.map((row) => rowFrom(row as RedisReply[])) }
}

function rowFrom([id, at, found]: RedisReply[]): { mark: Mark; place: JobPlace | undefined } {
  return { mark: { id: String(id), at: String(at) }, place: Array.isArray(found) ? placeFrom(found) : undefined }
}

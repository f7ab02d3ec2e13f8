/** Stack dumps in Redis: kept for a day, at most so many of a supervisor, together with the answer to whoever asked. */
import type { Redis } from 'ioredis'
import type { FleetKeys } from '../platform/redis-keys.js'
import { LUA_NOW, redisScript } from '../platform/redis-script.js'
import type { Dump } from './dump.js'
import type { DumpAnswer } from './dump-request.js'

export const KEPT_DUMPS = 100
const DUMP_TTL_MS = 86_400_000
const ANSWER_TTL_MS = 3_600_000
const POLL_MS = 15

// KEYS: dumps, answer, prefix of a dump's key, then the key of each dump. ARGV: answer, then id and JSON of each dump.
const SAVE = redisScript(`${LUA_NOW}
for i = 4, #KEYS do
  local id = ARGV[2 * (i - 3)]
  redis.call('SET', KEYS[i], ARGV[2 * (i - 3) + 1], 'PX', ${DUMP_TTL_MS})
  redis.call('ZADD', KEYS[1], now, id)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ${DUMP_TTL_MS})
local tooMany = redis.call('ZCARD', KEYS[1]) - ${KEPT_DUMPS}
if tooMany > 0 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, tooMany - 1)) do redis.call('DEL', KEYS[3] .. id) end
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, tooMany - 1)
end
redis.call('PEXPIRE', KEYS[1], ${DUMP_TTL_MS})
redis.call('SET', KEYS[2], ARGV[1], 'PX', ${ANSWER_TTL_MS})
return 1
`)

export async function saveDumps(
  redis: Redis,
  keys: FleetKeys,
  supervisor: string,
  answer: DumpAnswer,
  dumps: readonly Dump[],
): Promise<void> {
  await SAVE.run(
    redis,
    [keys.dumps(supervisor), keys.answer(answer.request), keys.dump(''), ...dumps.map(({ id }) => keys.dump(id))],
    [JSON.stringify(answer), ...dumps.flatMap((dump) => [dump.id, JSON.stringify(dump)])],
  )
}

/** @returns undefined when it is not kept, or not any more */
export async function readDump(redis: Redis, keys: FleetKeys, id: string): Promise<Dump | undefined> {
  const text = await redis.get(keys.dump(id))
  return text === null ? undefined : (JSON.parse(text) as Dump)
}

/** @returns ids, the newest first */
export function listDumps(redis: Redis, keys: FleetKeys, supervisor: string): Promise<string[]> {
  return redis.zrevrange(keys.dumps(supervisor), 0, -1)
}

/** @returns undefined when none came in time */
export async function awaitAnswer(
  redis: Redis,
  keys: FleetKeys,
  request: string,
  limitMs: number,
): Promise<DumpAnswer | undefined> {
  const deadline = performance.now() + limitMs
  for (;;) {
    const text = await redis.get(keys.answer(request))
    if (text !== null) return JSON.parse(text) as DumpAnswer
    if (performance.now() + POLL_MS > deadline) return undefined
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Reads the lags that each beat carries beside its record: nothing of its jobs and threads, and little to parse. */
import type { Redis } from 'ioredis'
import type { FleetKeys } from '../platform/redis-keys.js'
import { LUA_NOW, redisScript } from '../platform/redis-script.js'
import { type LoopLag, lagsOf, type SupervisorLags } from './beat-lags.js'
import { readBeats } from './redis-heartbeats.js'

const READ = redisScript(`${LUA_NOW}
local out = {}
for i = 1, #KEYS do
  local one = redis.call('HMGET', KEYS[i], 'at', 'deadAt', 'lags')
  out[3 * i - 2] = one[1] and (now - tonumber(one[1])) or -1
  out[3 * i - 1] = one[2] and (now - tonumber(one[2])) or 0
  out[3 * i] = one[3] or ''
end
return out
`)

const SUPERVISORS_PER_CALL = 500

export async function readLags(redis: Redis, keys: FleetKeys, supervisors: readonly string[]): Promise<SupervisorLags[]> {
  const calls: Promise<SupervisorLags[]>[] = []
  for (let at = 0; at < supervisors.length; at += SUPERVISORS_PER_CALL) {
    calls.push(readSome(redis, keys, supervisors.slice(at, at + SUPERVISORS_PER_CALL)))
  }
  return (await Promise.all(calls)).flat()
}

async function readSome(redis: Redis, keys: FleetKeys, supervisors: readonly string[]): Promise<SupervisorLags[]> {
  const reply = (await READ.run(redis, supervisors.map(keys.beat), [])) as (number | string)[]
  const without: string[] = []
  const read = supervisors.flatMap((name, index) => {
    const [ageMs, overdueMs, text] = reply.slice(3 * index, 3 * index + 3)
    // Gone between two calls, or a record that nobody can date.
    if (typeof ageMs !== 'number' || ageMs < 0) return []
    const isDead = Number(overdueMs) > 0
    if (text === '' && !isDead) without.push(name)
    return [{ name, heartbeatAgeMs: ageMs, loops: isDead ? [] : loopsIn(String(text), ageMs) }]
  })
  return without.length === 0
    ? read
    : [...read.filter(({ name }) => !without.includes(name)), ...(await fromBeats(redis, keys, without))]
}

function loopsIn(text: string, sinceMs: number): LoopLag[] {
  if (text === '') return []
  try {
    return grown(JSON.parse(text) as LoopLag[], sinceMs)
  } catch {
    return []
  }
}

/** What lagged when the beat was taken has lagged for longer since. */
function grown(lags: readonly LoopLag[], sinceMs: number): LoopLag[] {
  return lags.map(([loop, queue, lagMs, stale]) => [loop, queue, lagMs > 0 ? lagMs + sinceMs : 0, stale])
}

/** Of supervisors whose version says no lags yet, or which have only registered. */
async function fromBeats(redis: Redis, keys: FleetKeys, supervisors: readonly string[]): Promise<SupervisorLags[]> {
  const beats = await readBeats(redis, keys, supervisors)
  return beats.map(({ supervisor: name, ageMs, beat }) => ({
    name,
    heartbeatAgeMs: Math.max(0, ageMs),
    loops: beat ? grown(lagsOf(beat), Math.max(0, ageMs)) : [],
  }))
}

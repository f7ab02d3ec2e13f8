/** What `unstuck doctor` asks Redis. It changes nothing there. */
import type { Redis } from 'ioredis'
import { redisQueueFacts } from '../heartbeat/redis-queue-facts.js'
import { messageOf, UserError } from '../kernel/errors.js'
import type { Config } from '../platform/config.js'
import { checkRedis, connectRedis, infoField, redactUrl } from '../platform/redis.js'
import { type FleetKeys, fleetKeys, queueKeys } from '../platform/redis-keys.js'
import type { Finding } from './doctor-finding.js'
import { BULLMQ_FIX, parksAfterOutages } from './doctor-local.js'

/** Clocks that differ by more make scheduled jobs visibly early or late, milliseconds. */
const CLOCK_TOLERANCE_MS = 1000
/** Keys looked through at most. */
const MOST_KEYS = 200_000
const KEYS_AT_A_TIME = 1000
const NAMED_KEYS = 5

/** @returns also whether Redis could be asked at all */
export async function redisFindings(config: Config): Promise<{ reachable: boolean; findings: Finding[] }> {
  const { url } = config.redis
  if (url === undefined) {
    const finding = { found: 'redis.url is not set', fix: 'set REDIS_URL; `unstuck up` alone brings a Redis of its own' }
    return { reachable: true, findings: [{ check: 'redis', status: 'advice', ...finding }] }
  }
  const redis = connectRedis(url, 'watch')
  try {
    const suitable = await suitability(redis)
    if (suitable.some(({ check, status }) => check === 'redis' && status === 'problem')) {
      return { reachable: false, findings: suitable }
    }
    const asked = await Promise.all([
      asking('persistence', () => persistence(redis)),
      asking('clock', () => clock(redis)),
      asking('bullmq', () => queueVersions(redis, config)),
      asking('keys', () => strayKeys(redis, config)),
      asking('keys', () => unservedQueues(redis, config)),
    ])
    const reached: Finding = { check: 'redis', status: 'ok', found: redactUrl(url) }
    return { reachable: true, findings: [reached, ...suitable, ...asked.flat()] }
  } finally {
    redis.disconnect()
  }
}

/** What a provider does not let us ask is unknown, and no fault. */
async function asking(check: Finding['check'], ask: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await ask()
  } catch (error) {
    return [{ check, status: 'unknown', found: `Redis does not tell (${messageOf(error)})` }]
  }
}

async function suitability(redis: Redis): Promise<Finding[]> {
  try {
    await checkRedis(redis)
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    const ofStore = error.message.includes('maxmemory-policy') ? 'eviction' : 'version'
    const check = error.code === 'REDIS_UNREACHABLE' ? 'redis' : ofStore
    return [{ check, status: 'problem', ...halves(error.message) }]
  }
  return [
    { check: 'version', status: 'ok', found: `Redis ${await toldBy(redis, 'server', 'redis_version')}` },
    { check: 'eviction', status: 'ok', found: `maxmemory-policy ${await toldBy(redis, 'memory', 'maxmemory_policy')}` },
  ]
}

/** A UserError's message is `<what is wrong>; <the fix>`. */
function halves(message: string): { found: string; fix: string } {
  const at = message.lastIndexOf('; ')
  return { found: message.slice(0, at), fix: message.slice(at + 2) }
}

async function toldBy(redis: Redis, section: string, field: string): Promise<string> {
  return infoField(await redis.info(section).catch(() => undefined), field) ?? '(not told)'
}

async function persistence(redis: Redis): Promise<Finding[]> {
  const isOn = (await toldBy(redis, 'persistence', 'aof_enabled')) === '1'
  if (isOn) return [{ check: 'persistence', status: 'ok', found: 'append-only file' }]
  const save = (await redis.config('GET', 'save')) as string[]
  if (save[1])
    return [
      {
        check: 'persistence',
        status: 'advice',
        found: 'snapshots only: a crash loses the jobs since the last one',
        fix: 'run CONFIG SET appendonly yes',
      },
    ]
  return [
    {
      check: 'persistence',
      status: 'advice',
      found: 'none: a restart of Redis loses all jobs',
      fix: 'run CONFIG SET appendonly yes',
    },
  ]
}

async function clock(redis: Redis): Promise<Finding[]> {
  const before = Date.now()
  const [seconds, micros] = await redis.time()
  const after = Date.now()
  const apartMs = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000) - (before + after) / 2
  // Half of the round trip may have been spent on either side.
  const sure = Math.max(0, Math.abs(apartMs) - (after - before) / 2)
  const found = `this host and Redis are ${Math.round(Math.abs(apartMs))} ms apart`
  if (sure <= CLOCK_TOLERANCE_MS) return [{ check: 'clock', status: 'ok', found }]
  return [{ check: 'clock', status: 'problem', found, fix: 'let both hosts keep their time by NTP (timedatectl set-ntp true)' }]
}

/** The version that last opened each queue stands in its meta data. */
async function queueVersions(redis: Redis, config: Config): Promise<Finding[]> {
  const queues = await redis.smembers(fleetKeys(config.redis.prefix).queues)
  const versions = await Promise.all(
    queues.map((queue) => redis.hget(queueKeys(config.redis.bullPrefix, queue).meta, 'version')),
  )
  return queues.flatMap((queue, index) => {
    const version = /^bullmq:(.+)$/.exec(versions[index] ?? '')?.[1]
    if (version === undefined || !parksAfterOutages(version)) return []
    return [
      {
        check: 'bullmq',
        status: 'problem',
        found: `queue ${queue}: a program with BullMQ ${version} uses it`,
        fix: BULLMQ_FIX,
      } as const,
    ]
  })
}

/** What lies under the fleet's prefix and is none of its keys, or belongs to nobody any more. */
async function strayKeys(redis: Redis, { redis: { prefix } }: Config): Promise<Finding[]> {
  const keys = fleetKeys(prefix)
  const isKnown = knower(keys)
  const found = new Set<string>()
  let cursor = '0'
  let seen = 0
  do {
    const [next, some] = await redis.scan(cursor, 'MATCH', `${prefix.replace(/[\\*?[\]]/g, '\\$&')}:*`, 'COUNT', KEYS_AT_A_TIME)
    cursor = next
    seen += KEYS_AT_A_TIME
    for (const key of some) found.add(key)
  } while (cursor !== '0' && seen < MOST_KEYS)
  const orders = keys.orders('')
  const orphaned = (key: string) => key.startsWith(orders) && !found.has(keys.beat(key.slice(orders.length)))
  const strays = [...found].filter((key) => !isKnown(key) || orphaned(key)).sort()
  if (strays.length === 0) return [{ check: 'keys', status: 'ok', found: `${found.size} keys of the fleet, none stray` }]
  const named = strays.slice(0, NAMED_KEYS).join(' ')
  const more = strays.length > NAMED_KEYS ? ` and ${strays.length - NAMED_KEYS} more` : ''
  const fix = 'find out who writes there, or delete them (redis-cli DEL)'
  return [{ check: 'keys', status: 'advice', found: `stray under redis.prefix: ${named}${more}`, fix }]
}

function knower(keys: FleetKeys): (key: string) => boolean {
  const names = Object.values(keys).map((key: string | ((name: string) => string)) =>
    typeof key === 'string' ? { exact: key } : { start: key('') },
  )
  return (key) => names.some((name) => ('exact' in name ? key === name.exact : key.startsWith(name.start)))
}

/** Jobs in queues that no config names here, and no supervisor serves. */
async function unservedQueues(redis: Redis, config: Config): Promise<Finding[]> {
  const { prefix, bullPrefix } = config.redis
  const keys = fleetKeys(prefix)
  const foreign = (await redis.smembers(keys.queues)).filter((queue) => !(queue in config.queues))
  const facts = redisQueueFacts({ redis, keys, bullPrefix, now: Date.now, onError: () => undefined })
  return (await facts.read(foreign)).flatMap(({ queue, waiting, delayed, eligible }) => {
    if (eligible > 0 || waiting + delayed === 0) return []
    const found = `queue ${queue}: ${waiting + delayed} jobs, no config here names it and no supervisor serves it`
    return [
      { check: 'keys', status: 'problem', found, fix: 'configure it, or remove its jobs (bull-board at /queues can)' } as const,
    ]
  })
}

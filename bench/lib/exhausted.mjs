/** Jobs that ran out of attempts, written as a supervisor leaves them, without the hours of failing. */
import { queueKeys } from '../../dist/platform/redis-keys.js'

/** The name of the connection of the process that reconciles, by which its calls are told from others'. */
export const RECONCILER = 'bench-reconciler'

const BATCH = 1000
const OPTIONS = { attempts: 8, backoff: { type: 'unstuck' }, unstuck: { group: 'smtp' } }
const COOLDOWN_MS = 6 * 3_600_000

/** @param settings the fingerprint under which they failed */
export async function seedExhausted(redis, { queue, jobs, settings }) {
  const k = queueKeys('bull', queue)
  const now = Date.now()
  for (let at = 0; at < jobs; at += BATCH) {
    const calls = redis.pipeline()
    for (let number = at; number < Math.min(jobs, at + BATCH); number += 1) {
      const id = `job-${number}`
      calls.hset(k.job(id), fieldsOf(number, now, settings))
      calls.zadd(k.failed, now, id)
      calls.zadd(k.exhausted, now + COOLDOWN_MS, id)
    }
    const failed = (await calls.exec()).find(([error]) => error)
    if (failed) throw failed[0]
  }
  return k
}

const fieldsOf = (number, now, settings) => ({
  name: 'send',
  data: JSON.stringify({ to: `user-${number}@example.org`, template: 'welcome' }),
  opts: JSON.stringify(OPTIONS),
  timestamp: now - 1000,
  delay: 0,
  priority: 0,
  processedOn: now - 500,
  finishedOn: now,
  pb: 'worker-1#0123456789ab',
  atm: 8,
  ats: 8,
  failedReason: 'connect ECONNREFUSED 192.0.2.1:25',
  stacktrace: JSON.stringify(['Error: connect ECONNREFUSED 192.0.2.1:25\n    at TCPConnectWrap.afterConnect']),
  'unstuck:kind': 'exhausted',
  'unstuck:failedAt': now,
  'unstuck:cooldownUntil': now + COOLDOWN_MS,
  'unstuck:group': 'smtp',
  'unstuck:settings': settings,
  'unstuck:ended': '8 1',
})

/**
 * The product's own reconcile loop over one queue, in a process of its own that takes no jobs.
 *
 * usage (forked): reconciler.mjs REDIS_URL QUEUE PER_SECOND SETTINGS
 */
import { fileURLToPath } from 'node:url'
import { Observer } from '../../dist/heartbeat/observer.js'
import { parseConfig } from '../../dist/platform/config-parse.js'
import { connectRedis } from '../../dist/platform/redis.js'
import { fleetKeys } from '../../dist/platform/redis-keys.js'
import { systemClock } from '../../dist/platform/system-clock.js'
import { reconcileLoop } from '../../dist/recovery/reconcile-loop.js'
import { redisReconcile } from '../../dist/recovery/redis-reconcile.js'
import { RECONCILER } from './exhausted.mjs'

const [url, queue, perSecondText, settings] = process.argv.slice(2)
const fail = (error) => {
  console.error(error)
  process.exit(1)
}
const INTERVAL_MS = 1000
const AHEAD_MS = 2000
const {
  redis: names,
  heartbeat,
  queues,
} = parseConfig(
  { queues: { [queue]: { handler: fileURLToPath(new URL('./noop-handler.mjs', import.meta.url)) } } },
  { baseDir: process.cwd() },
)
const { attempts, breaker } = queues[queue]
const rules = { perSecond: Number(perSecondText), aheadMs: AHEAD_MS, attempts, settings, probeMs: breaker.probeMs }
const redis = connectRedis(url, 'command', { connectionName: RECONCILER, onError: fail })
const loop = reconcileLoop({
  queues: [queue],
  intervalMs: INTERVAL_MS,
  probe: { started: () => undefined, phase: () => undefined, ended: () => undefined, skipped: () => undefined },
  onError: fail,
  onReaped: () => undefined,
  onReset: () => undefined,
  onBreakers: () => undefined,
  port: redisReconcile({
    redis,
    keys: fleetKeys(names.prefix),
    bullPrefix: names.bullPrefix,
    owner: 'bench#0123456789ab',
    leaseMs: 1.5 * INTERVAL_MS,
    observer: new Observer({ timeoutMs: heartbeat.timeoutMs, pauseMs: heartbeat.timeoutMs + INTERVAL_MS }),
    clock: systemClock,
    rulesOf: () => rules,
  }),
})
await loop.start()
process.on('disconnect', () => process.exit())
process.send('ready')

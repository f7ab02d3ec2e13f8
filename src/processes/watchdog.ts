/** The watchdog process: connections, loop, metrics and HTTP put together. Nothing is decided here. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { Redis } from 'ioredis'
import { Dispatcher } from '../dispatcher.js'
import { redisQueueFacts } from '../heartbeat/redis-queue-facts.js'
import { brokenRoutes } from '../http/broken-routes.js'
import { addBullBoard } from '../http/bull-board.js'
import { addDashboard } from '../http/dashboard-files.js'
import { addEvents } from '../http/events.js'
import { addHistory } from '../http/history.js'
import { readModel } from '../http/read-model.js'
import { redisFleetGauges } from '../http/redis-fleet-gauges.js'
import { redisFleetSource } from '../http/redis-fleet-source.js'
import { redisTransitionTail } from '../http/redis-transition-tail.js'
import type { RouteDeps } from '../http/routes.js'
import { type HttpServer, startHttpServer } from '../http/server.js'
import { messageOf, UserError } from '../kernel/errors.js'
import { within } from '../kernel/within.js'
import type { Config, QueueConfig } from '../platform/config.js'
import { openTracing } from '../platform/otel-tracer.js'
import { createLogger } from '../platform/pino-logger.js'
import { processRegistry } from '../platform/prom-metrics.js'
import { connectRedis } from '../platform/redis.js'
import { type FleetKeys, fleetKeys } from '../platform/redis-keys.js'
import { systemClock } from '../platform/system-clock.js'
import { VERSION } from '../platform/version.js'
import { promWatchdogMetrics, type WatchdogMetrics } from '../watchdog/prom-watchdog-metrics.js'
import type { QueueThresholds } from '../watchdog/queue-tracker.js'
import { redisDumpAsker } from '../watchdog/redis-dump-asker.js'
import { redisIncidents } from '../watchdog/redis-incidents.js'
import { redisHints, redisWatchStore } from '../watchdog/redis-watch-store.js'
import type { LineLog } from '../watchdog/report.js'
import { WatchLoop } from '../watchdog/watch-loop.js'
import { type WatchdogSigns, watchdogSigns } from './watchdog-signs.js'

/** When a queue is in no config, milliseconds: CONTRACT's defaults. */
const DEFAULT_NO_WORKER_AFTER_MS = 30_000

/** A watchdog begins to look after so long, whether Redis is there or not, milliseconds. */
const FIRST_CONNECTION_MS = 1000

/** The longest call to Redis of a watchdog, milliseconds. */
const MAX_CALL_MS = 2000

/** Together below the 2 s within which every route answers. */
const ORDER_LIMITS = { probeLimitMs: 600, callLimitMs: 1200 }

export interface WatchdogDeps {
  readonly log?: LineLog
  readonly clock?: typeof systemClock
  /** Default: host name and pid. */
  readonly id?: string
  /** Between two signs to watchdog.deadmanUrl, milliseconds. Default: as documented. */
  readonly deadmanIntervalMs?: number
}

export interface RunningWatchdog {
  readonly id: string
  /** Where it serves HTTP. */
  readonly address: string
  /** Waits for the cycle in flight, says goodbye and closes. */
  stop(): Promise<void>
}

/** @throws UserError REDIS_MISSING without an address, PORT_IN_USE */
export async function startWatchdog(config: Config, deps: WatchdogDeps = {}): Promise<RunningWatchdog> {
  const url = config.redis.url
  if (url === undefined)
    throw new UserError('REDIS_MISSING', 'redis.url: not set; set REDIS_URL or --redis, or use "unstuck up"')
  // It adds jobs at others' wish, and had better refuse now than each of them.
  await openTracing(config.telemetry)
  const id = deps.id ?? `${hostname()}-${process.pid}`
  const log = deps.log ?? createLogger({ ...config.log, role: 'watchdog', name: id })
  const clock = deps.clock ?? systemClock
  const keys = fleetKeys(config.redis.prefix)
  // A call that hangs must end well before it looks like a pause of this watchdog.
  const callLimitMs = Math.min(MAX_CALL_MS, config.heartbeat.timeoutMs / 2, config.watchdog.redisUnreachableAfterMs / 2)
  const redis = connectRedis(url, 'watch', { commandTimeout: callLimitMs })
  const askedRedis = connectRedis(url, 'watch')
  const subscriber = connectRedis(url, 'subscriber')
  const reader = connectRedis(url, 'blocking')
  const queues = Object.keys(config.queues)
  const incidents = redisIncidents(redis, keys)
  const metrics = promWatchdogMetrics(processRegistry({ role: 'watchdog', version: VERSION }), queues)
  const { timeoutMs } = config.heartbeat
  const signs = watchdogSigns({
    ...{ config, watchdogId: id, log, deadmanIntervalMs: deps.deadmanIntervalMs },
    monotonicMs: () => clock.monotonicMs(),
    view: () => loop.view,
  })
  const loop = new WatchLoop({
    watchdogId: id,
    clock,
    log,
    incidents,
    queues,
    timeoutMs,
    ...config.watchdog,
    store: redisWatchStore({ redis, keys, watchdogId: id, timeoutMs }),
    queueFacts: redisQueueFacts({
      redis,
      keys,
      bullPrefix: config.redis.bullPrefix,
      now: () => clock.now(),
      onError: queueComplaint(log),
    }),
    hints: redisHints(subscriber, keys),
    ...(config.watchdog.dumpOnStuck ? { dumps: dumpAsker({ redis, keys, metrics, log }) } : {}),
    telemetry: signs.through(metrics),
    newId: () => randomUUID(),
    thresholdsOf: (queue) => thresholdsOf(config, config.queues[queue]),
  })
  const model = readModel(redisFleetSource(askedRedis, config.redis), clock, queues)
  const gauges = redisFleetGauges(askedRedis, config.redis, queues)
  const dispatcher = new Dispatcher(config, { readModel: model, ...ORDER_LIMITS })
  const disconnect = async () => {
    for (const connection of [redis, askedRedis, subscriber, reader]) connection.disconnect()
    await dispatcher.close()
  }
  try {
    const routes: RouteDeps = {
      api: dispatcher,
      readModel: model,
      recent: (limit) => redisIncidents(askedRedis, keys).recent(limit),
      watch: () => loop.view,
      signOfLife: () => askedRedis.ping(),
      metrics: async (redisUp) => metricsText(metrics, await gauges(), redisUp),
      pollStaleThresholdMs: config.loops.pollStaleThresholdMs,
    }
    const http = await startHttpServer({ ...config.http, onBroken: brokenRoutes(log, clock.monotonicMs) }, routes, (server) => {
      const tail = redisTransitionTail({ reader, redis: askedRedis, keys })
      addEvents(server, { tail, readModel: model, watch: () => loop.view })
      addHistory(server, { readModel: model, clock })
      addBullBoard(server, { redis: askedRedis, bullPrefix: config.redis.bullPrefix, queues, readModel: model })
      return addDashboard(server)
    })
    // A first look that fails for want of a connection would count as an outage, and cost a timeout of judging.
    await within(whenReady(redis), FIRST_CONNECTION_MS)
    await loop.start()
    signs.ready()
    return { id, address: http.address, stop: () => stopAll(signs, http, loop, disconnect) }
  } catch (error) {
    await disconnect()
    throw error
  }
}

function dumpAsker({ redis, keys, metrics, log }: { redis: Redis; keys: FleetKeys; metrics: WatchdogMetrics; log: LineLog }) {
  const onError = (message: string) => log.warn({ event: 'watchdog_trouble' }, message)
  return redisDumpAsker({ redis, keys, onAsked: (outcome) => metrics.dumpAsked(outcome), onError })
}

function whenReady(redis: Redis): Promise<void> {
  if (redis.status === 'ready') return Promise.resolve()
  return new Promise((resolve) => redis.once('ready', () => resolve()))
}

async function stopAll(
  signs: WatchdogSigns,
  http: HttpServer,
  loop: WatchLoop,
  disconnect: () => Promise<void>,
): Promise<void> {
  signs.stopping()
  await http.stop()
  await loop.stop()
  await disconnect()
}

async function metricsText(metrics: WatchdogMetrics, ...shown: Parameters<WatchdogMetrics['show']>) {
  metrics.show(...shown)
  return { contentType: metrics.registry.contentType, text: await metrics.text() }
}

function thresholdsOf(config: Config, queue: QueueConfig | undefined): QueueThresholds {
  if (queue) return queue
  return { noWorkerAfterMs: DEFAULT_NO_WORKER_AFTER_MS, notMovingAfterMs: 2 * config.loops.pollStaleThresholdMs }
}

/** Each queue that cannot be measured is named once. */
function queueComplaint(log: LineLog): (queue: string, error: unknown) => void {
  const named = new Set<string>()
  return (queue, error) => {
    // A connection that is away is no fault of the queue; redis_unreachable says it.
    if (named.has(queue) || !messageOf(error).match(/^(WRONGTYPE|ERR|NOPERM|CROSSSLOT)/)) return
    named.add(queue)
    log.warn({ event: 'watchdog_trouble', queue }, `queue:${queue}: cannot be measured (${messageOf(error)})`)
  }
}

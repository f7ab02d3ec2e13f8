/**
 * Entry of the sentinel thread: gives the sentinel its board, its own connection to Redis and its timers. It runs until
 * main terminates it; by itself it never ends, whatever happens to it.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { BeatBoard } from '../heartbeat/beat-board.js'
import { redisBeatWriter } from '../heartbeat/redis-heartbeats.js'
import { sampleBeat } from '../heartbeat/sampler.js'
import { Sentinel } from '../heartbeat/sentinel.js'
import type { FromSentinel, SentinelData, ToSentinel } from '../heartbeat/sentinel-protocol.js'
import { messageOf } from '../kernel/errors.js'
import { connectRedis } from '../platform/redis.js'
import { systemClock } from '../platform/system-clock.js'

/** An unanswered call must leave time for a new connection and another beat before silence means death. */
const CALL_TIMEOUT_SHARE = 0.3
const MAX_CALL_TIMEOUT_MS = 2000
/** A socket that swallowed a reply is not worth a polite farewell. */
const DISCONNECT_TIMEOUT_MS = 100

const data = workerData as SentinelData
const post = (message: FromSentinel): void => parentPort?.postMessage(message)
const trouble = (error: unknown): void => post({ type: 'error', message: messageOf(error) })
process.on('uncaughtException', trouble)
process.on('unhandledRejection', trouble)

const { intervalMs, timeoutMs } = data.heartbeat
const callTimeoutMs = Math.min(MAX_CALL_TIMEOUT_MS, Math.round(timeoutMs * CALL_TIMEOUT_SHARE))
const redis = connectRedis(data.redisUrl, 'watch', {
  commandTimeout: callTimeoutMs,
  disconnectTimeout: DISCONNECT_TIMEOUT_MS,
  onError: (error) => sentinel.tell(error),
})
const board = new BeatBoard(data.handle, systemClock.monotonicMs)
const { supervisor, incarnation, group, host, pid, prefix } = data

const sentinel = new Sentinel(
  {
    sample: (seq, now, pauses) =>
      sampleBeat(board, data, {
        seq,
        uptimeMs: process.uptime() * 1000,
        wallNow: systemClock.now(),
        monotonicNow: now,
        pauses,
      }),
    sink: redisBeatWriter(redis, {
      prefix,
      supervisor,
      incarnation,
      ...(group === undefined ? {} : { group }),
      host,
      pid,
      timeoutMs,
      queues: data.queues.map(({ name }) => name),
    }),
    reconnect: () => redis.disconnect(true),
    post,
    monotonicMs: systemClock.monotonicMs,
    timer: (run, ms) => {
      const timer = setTimeout(run, ms)
      return () => clearTimeout(timer)
    },
  },
  { incarnation, intervalMs, callTimeoutMs },
)

redis.on('ready', () => {
  if (sentinel.state === 'idle') void sentinel.start()
  else sentinel.kick()
})

async function leave(): Promise<void> {
  await sentinel.stop()
  redis.disconnect()
  post({ type: 'gone', said: sentinel.saidGoodbye })
}

parentPort?.on('message', (message: ToSentinel) => {
  if (message.type === 'goodbye') leave().catch(trouble)
})

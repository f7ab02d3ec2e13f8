/**
 * Entry of the sentinel thread: gives the sentinel its board, its own connection to Redis and its timers. It runs until
 * main terminates it; by itself it never ends, whatever happens to it.
 */
import { randomUUID } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { BeatBoard } from '../heartbeat/beat-board.js'
import { redisBeatWriter } from '../heartbeat/redis-heartbeats.js'
import { sampleBeat } from '../heartbeat/sampler.js'
import { Sentinel } from '../heartbeat/sentinel.js'
import type {
  FromSentinel,
  SentinelData,
  SentinelIdentity,
  TerminateOrder,
  ToSentinel,
} from '../heartbeat/sentinel-protocol.js'
import { messageOf } from '../kernel/errors.js'
import { connectRedis } from '../platform/redis.js'
import { fleetKeys } from '../platform/redis-keys.js'
import { socketFolder } from '../platform/socket-folder.js'
import { systemClock } from '../platform/system-clock.js'
import { readDumpOrder } from '../stackdump/dump-request.js'
import { Dumper } from '../stackdump/dumper.js'
import { InspectorCapture } from '../stackdump/inspector-capture.js'
import { DumpSocket } from '../stackdump/node-dump-socket.js'
import { onWake } from '../stackdump/redis-dump-requests.js'
import { saveDumps } from '../stackdump/redis-dumps.js'
import { Outlook } from './outlook.js'

/** An unanswered call must leave time for a new connection and another beat before silence means death. */
const CALL_TIMEOUT_SHARE = 0.3
const MAX_CALL_TIMEOUT_MS = 2000
/** A socket that swallowed a reply is not worth a polite farewell. */
const DISCONNECT_TIMEOUT_MS = 100

/** A thread that is ended is gone within this, or in native code for good, milliseconds. */
const GONE_LIMIT_MS = 1000
const GONE_POLL_MS = 10

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
const keys = fleetKeys(prefix)
/** Its queues change while it runs, where a process watches workers that come and go. */
let identity: SentinelIdentity = data

const capture = new InspectorCapture({
  tids: (threadId) => board.threadTid(threadId),
  log: (message) => sentinel.tell(message),
})
const dumper = new Dumper(
  {
    board,
    capture: (orders) => capture.dumpAll(orders),
    save: (answer, dumps) => saveDumps(redis, keys, supervisor, answer, dumps),
    newId: randomUUID,
    now: systemClock.now,
    monotonicMs: systemClock.monotonicMs,
    error: (error) => sentinel.tell(error),
  },
  { supervisor, incarnation },
)

/** @returns whether it was one for us */
function obey(text: string): boolean {
  const order = readDumpOrder(text, incarnation)
  if (!order) return false
  void dumper.obey(order)
  return true
}

/** For those on this host who do not ask Redis how the process is. */
const outlook = new Outlook({
  data,
  sample: (seq, now, pauses) =>
    sampleBeat(board, identity, {
      seq,
      uptimeMs: process.uptime() * 1000,
      wallNow: systemClock.now(),
      monotonicNow: now,
      pauses,
    }),
  post,
  onError: (error) => sentinel.tell(error),
})

const sentinel = new Sentinel(
  {
    sample: outlook.sample,
    sink: outlook.through(
      redisBeatWriter(redis, {
        prefix,
        supervisor,
        incarnation,
        ...(group === undefined ? {} : { group }),
        host,
        pid,
        timeoutMs,
        queues: data.queues.map(({ name }) => name),
      }),
    ),
    reconnect: () => redis.disconnect(true),
    post,
    obey,
    witness,
    monotonicMs: systemClock.monotonicMs,
    timer: (run, ms) => {
      const timer = setTimeout(run, ms)
      return () => clearTimeout(timer)
    },
  },
  { incarnation, intervalMs, callTimeoutMs },
)

redis.on('ready', () => {
  if (sentinel.state === 'idle') void begin()
  else sentinel.kick()
})

async function begin(): Promise<void> {
  if ((await outlook.listening) && sentinel.state === 'idle') await sentinel.start()
}

/** Before a thread is ended: what it does, and after it no more looks until it is gone, since they could swallow its end. */
async function witness(order: TerminateOrder): Promise<void> {
  await dumper.witness(order)
  void capture.exclusive(() => untilGone(order))
}

async function untilGone({ queue, thread, generation }: TerminateOrder): Promise<void> {
  const deadline = systemClock.monotonicMs() + GONE_LIMIT_MS
  const isThere = () =>
    board
      .readThreads()
      .some((one) => board.layout.queues[one.queue]?.name === queue && one.number === thread && one.generation === generation)
  while (isThere() && systemClock.monotonicMs() < deadline) await new Promise((resolve) => setTimeout(resolve, GONE_POLL_MS))
}

// A request for dumps is in a hurry; without this line it waits for the next beat.
const waker = connectRedis(data.redisUrl, 'subscriber', { onError: () => undefined })
onWake(waker, keys, supervisor, () => sentinel.kick()).catch(() => undefined)

// For a person on this host, when Redis is away or the main thread is blocked: no signal handler would run then.
const dumpSocket = new DumpSocket({
  folder: socketFolder(),
  supervisor,
  take: (targets, deep) => dumper.take(targets, deep),
  onError: (error) => sentinel.tell(error),
})
void dumpSocket.start()

async function leave(): Promise<void> {
  await sentinel.stop()
  waker.disconnect()
  await dumpSocket.stop()
  redis.disconnect()
  post({ type: 'gone', said: sentinel.saidGoodbye })
}

parentPort?.on('message', (message: ToSentinel) => {
  switch (message.type) {
    case 'goodbye':
      leave().catch(trouble)
      break
    case 'serve':
      board.relayout(message.layout)
      identity = { ...data, queues: message.queues }
      sentinel.kick()
      break
    case 'metrics':
      outlook.told(message.text)
      break
  }
})

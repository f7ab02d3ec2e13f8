/**
 * From cause to STUCK line. The watchdogs are real processes; what falls ill is one simulated supervisor, queue or
 * watchdog among a fleet that beats, and a real thread of a real supervisor. Cause and line are stamped in this process
 * by one monotonic clock; a blocked thread says when by the same clock of the machine.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { redisBeatWriter } from '../dist/heartbeat/redis-heartbeats.js'
import { fleetKeys, queueKeys } from '../dist/platform/redis-keys.js'
import { healthyBeat, TIMEOUT_MS } from './lib/beats.mjs'
import { startProxy } from './lib/outage-proxy.mjs'
import { admit, ailments, PATIENTS_QUEUE, THRESHOLD_MS } from './lib/patient.mjs'
import { end, startCommand } from './lib/processes.mjs'
import { configFile, Lines, queuesOf, startWatchdog } from './lib/watch.mjs'

const PREFIX = '{unstuck}'
const keys = fleetKeys(PREFIX)
const numbered = (name) => [1, 2, 3, 4].map((number) => `${name}-${number}`)
const unserved = numbered('unserved')
const unmoving = numbered('unmoving')
const unscheduled = numbered('unscheduled')
const NOT_MOVING_MS = 2100
/** How long after its time a scheduler's job may be missing before it counts as overdue. */
const SCHEDULER_GRACE_MS = 2000
const CLEAR_AFTER_START_MS = 7000
const REAL_QUEUE = 'blocked'
const loops = { pollIntervalMs: 1000, pollStaleThresholdMs: 2000 }

/** @returns {Promise<{samples: Record<string, {thresholdMs: number, latencies: number[]}>, missed: number, falseAlarms: string[]}>} */
export async function detection({ url, repetitions, windowMs }) {
  const redis = new Redis(url)
  const lines = new Lines(({ subject }) => void redis.del(keys.flapping(subject)))
  const samples = new Map()
  const record = { missed: 0 }
  const note = (cause, thresholdMs, causeAt, lineAt) => {
    if (lineAt === undefined) {
      record.missed += 1
      process.stderr.write(`no STUCK line for ${cause}\n`)
      return
    }
    if (!samples.has(cause)) samples.set(cause, { thresholdMs, latencies: [] })
    samples.get(cause).latencies.push(lineAt - causeAt)
  }
  const scene = { url, redis, lines, note, repetitions, windowMs }
  const stops = []
  try {
    stops.push(await mainWatchdog(scene), await queueHost(scene))
    await sleep(CLEAR_AFTER_START_MS)
    await Promise.all([
      ...Object.keys(ailments).map((cause) => patients(scene, cause)),
      ...unserved.map((queue) => queueTrouble(scene, 'no_eligible_worker', queue, THRESHOLD_MS)),
      ...unmoving.map((queue) => queueTrouble(scene, 'queue_not_moving', queue, NOT_MOVING_MS)),
      ...unscheduled.map((queue) => schedulerTrouble(scene, queue)),
      lostWatchdogs(scene),
      unreachable(scene),
      blind(scene),
      realThreads(scene),
    ])
  } finally {
    for (const stop of stops) await stop()
    redis.disconnect()
  }
  return { samples: Object.fromEntries(samples), missed: record.missed, falseAlarms: lines.falseAlarms }
}

async function mainWatchdog({ url, lines }) {
  const queues = {
    ...queuesOf([PATIENTS_QUEUE, REAL_QUEUE]),
    ...queuesOf(unserved, { noWorkerAfterMs: THRESHOLD_MS }),
    ...queuesOf([...unmoving, ...unscheduled], { notMovingAfterMs: NOT_MOVING_MS, noWorkerAfterMs: 60_000 }),
  }
  const { child } = await startWatchdog('watchdog', { redis: { url, prefix: PREFIX }, loops, queues }, lines.heard)
  return () => end(child)
}

/** A healthy supervisor with free slots that serves the queues which are to stand still. */
async function queueHost({ redis }) {
  const supervisor = 'queue-host'
  const incarnation = 'queue-host-1'
  const common = { prefix: PREFIX, supervisor, incarnation, host: 'bench', pid: 1, timeoutMs: TIMEOUT_MS }
  const writer = redisBeatWriter(redis, { ...common, queues: unmoving })
  await writer.register()
  let seq = 0
  const timer = setInterval(() => {
    seq += 1
    const beat = healthyBeat({ supervisor, incarnation, seq, uptimeMs: seq * 500, busy: 0 })
    const [slots] = beat.queues
    void writer.beat({ ...beat, queues: unmoving.map((queue) => ({ ...slots, queue })) }, false, false)
  }, 500)
  return async () => {
    clearInterval(timer)
    await writer.goodbye()
  }
}

/** Causes must fall anywhere between two looks and two beats. */
const somewhere = (ms) => sleep(Math.random() * ms)

/** So many at random moments within the window, each a subject of its own. */
async function patients(scene, cause) {
  await Promise.all(
    Array.from({ length: scene.repetitions }, async (_, number) => {
      await somewhere(scene.windowMs)
      const patient = await admit({ redis: scene.redis, prefix: PREFIX, cause, number })
      await sleep(500 + Math.random() * 1000)
      const line = scene.lines.next('stuck', cause, patient.subject)
      const causeAt = patient.fallIll()
      scene.note(cause, patient.thresholdMs, causeAt, await line)
      await patient.discharge()
    }),
  )
}

async function queueTrouble({ redis, lines, note, repetitions }, cause, queue, thresholdMs) {
  const { wait } = queueKeys('bull', queue)
  for (let turn = 0; turn < Math.ceil(repetitions / unserved.length); turn += 1) {
    await somewhere(400)
    const stuck = lines.next('stuck', cause, `queue:${queue}`)
    const causeAt = performance.now()
    await redis.rpush(wait, `job-${turn}`)
    note(cause, thresholdMs, causeAt, await stuck)
    const resumed = lines.next('resumed', cause, `queue:${queue}`)
    await redis.del(wait)
    await resumed
  }
}

async function schedulerTrouble({ redis, lines, note, repetitions }, queue) {
  const { repeat } = queueKeys('bull', queue)
  for (let turn = 0; turn < Math.ceil(repetitions / unscheduled.length); turn += 1) {
    await somewhere(400)
    const stuck = lines.next('stuck', 'scheduler_overdue', `queue:${queue}`)
    const causeAt = performance.now()
    await redis.zadd(repeat, Date.now() - SCHEDULER_GRACE_MS - 1, 'nightly')
    note('scheduler_overdue', NOT_MOVING_MS, causeAt, await stuck)
    const resumed = lines.next('resumed', 'scheduler_overdue', `queue:${queue}`)
    await redis.del(repeat)
    await resumed
  }
}

/** Other watchdogs, told by the one mark that each of their cycles leaves. */
async function lostWatchdogs({ redis, lines, note, repetitions, windowMs }) {
  const MARK = "local t = redis.call('TIME') redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000), ARGV[1])"
  await Promise.all(
    Array.from({ length: repetitions }, async (_, number) => {
      await somewhere(windowMs)
      const id = `lost-${number}`
      const stuck = lines.next('stuck', 'watchdog_lost', `watchdog:${id}`)
      const causeAt = performance.now()
      await redis.eval(MARK, 1, keys.watchdogs, id)
      note('watchdog_lost', TIMEOUT_MS, causeAt, await stuck)
      await redis.zrem(keys.watchdogs, id)
    }),
  )
}

/** A watchdog of a fleet of its own on the same Redis, so that its outage delays nobody else's lines. */
async function unreachable({ url, note, repetitions }) {
  const proxy = await startProxy(url)
  const lines = new Lines(() => undefined)
  const config = {
    redis: { url: proxy.url, prefix: '{unstuck-outage}' },
    watchdog: { intervalMs: 500, redisUnreachableAfterMs: THRESHOLD_MS },
  }
  const { child } = await startWatchdog('watchdog-outage', config, lines.heard)
  for (let turn = 0; turn < repetitions; turn += 1) {
    await somewhere(400)
    const stuck = lines.next('stuck', 'redis_unreachable')
    const causeAt = performance.now()
    proxy.freeze()
    note('redis_unreachable', THRESHOLD_MS, causeAt, await stuck)
    const resumed = lines.next('resumed', 'redis_unreachable')
    proxy.thaw()
    await resumed
  }
  await end(child)
  proxy.close()
}

/** The store loses its memory, as a flush or an empty replica would: the watchdog must suspect itself. */
async function blind({ url, redis, note, repetitions }) {
  const own = fleetKeys('{unstuck-blind}')
  const lines = new Lines(({ subject }) => void redis.del(own.flapping(subject)))
  const heartbeat = { intervalMs: 250, timeoutMs: 500 }
  const config = { redis: { url, prefix: '{unstuck-blind}' }, heartbeat, watchdog: { intervalMs: 500 } }
  const { child } = await startWatchdog('watchdog-blind', config, lines.heard)
  for (let turn = 0; turn < repetitions; turn += 1) {
    // It must have seen a good look since its last blindness ended.
    await sleep(500)
    await somewhere(400)
    const stuck = lines.next('stuck', 'watchdog_blind')
    const resumed = lines.next('resumed', 'watchdog_blind')
    const causeAt = performance.now()
    await redis.del(own.epoch)
    note('watchdog_blind', 0, causeAt, await stuck)
    await resumed
  }
  await end(child)
}

/** A real supervisor whose handler blocks its thread. */
async function realThreads({ url, lines, note, repetitions }) {
  const handler = fileURLToPath(new URL('./lib/blocking-handler.mjs', import.meta.url))
  const config = configFile('supervisor', {
    redis: { url, prefix: PREFIX },
    loops,
    heartbeat: { threadBlockedMs: THRESHOLD_MS },
    supervisor: { name: 'real', port: 0 },
    queues: { [REAL_QUEUE]: { handler, threads: 2 } },
  })
  const begun = new Map()
  let started = () => undefined
  const ready = new Promise((resolve) => {
    started = resolve
  })
  // The offset of performance.now to the machine's monotonic clock, which the handler reads.
  const offset = Number(process.hrtime.bigint()) / 1e6 - performance.now()
  const child = startCommand(['supervisor', '--config', config], (line) => {
    if (line.event === 'started') started()
    const at = /^blocked (\d+)$/.exec(line.event === 'job_log' ? line.msg : '')?.[1]
    if (at !== undefined) begun.set(line.jobId, Number(at) / 1e6 - offset)
  })
  await ready
  const queue = new Queue(REAL_QUEUE, { connection: { url } })
  const oneThread = async (thread) => {
    for (let turn = 0; turn < Math.ceil(repetitions / 2); turn += 1) {
      await somewhere(400)
      const jobId = `job-${thread}-${turn}`
      const stuck = lines.next('stuck', 'thread_blocked', `${REAL_QUEUE}/${jobId}`)
      const resumed = lines.next('resumed', 'thread_blocked', `${REAL_QUEUE}/${jobId}`)
      await queue.add('block', { ms: THRESHOLD_MS + 500 }, { jobId, attempts: 1 })
      const lineAt = await stuck
      note('thread_blocked, a real one', THRESHOLD_MS, begun.get(jobId), lineAt)
      await resumed
    }
  }
  await Promise.all([oneThread(1), oneThread(2)])
  await queue.close()
  await end(child, 'SIGTERM')
}

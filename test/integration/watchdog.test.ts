import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { Redis } from 'ioredis'
import { afterEach, describe, expect, it } from 'vitest'
import type { Beat } from '../../src/heartbeat/beat.js'
import { redisQueueFacts } from '../../src/heartbeat/redis-queue-facts.js'
import { connectRedis } from '../../src/platform/redis.js'
import { fleetKeys, queueKeys } from '../../src/platform/redis-keys.js'
import { systemClock } from '../../src/platform/system-clock.js'
import { redisIncidents } from '../../src/watchdog/redis-incidents.js'
import { redisHints, redisWatchStore } from '../../src/watchdog/redis-watch-store.js'
import { WatchLoop } from '../../src/watchdog/watch-loop.js'
import { beatOf, jobOf, loopOf, threadOf } from '../support/beats.js'
import { type FakeSupervisor, startFakeSupervisor } from '../support/fake-supervisor.js'
import { startTestRedis, type TestRedis } from '../support/redis.js'

const TIMEOUT_MS = 600
const keys = fleetKeys('{unstuck}')

interface Line {
  readonly watchdogId: string
  readonly event: string
  readonly subject: string
  readonly cause: string
  readonly msg: string
  readonly at: number
  readonly [field: string]: unknown
}

/** All lines of all watchdogs of a test, and a way to await one. */
class Lines extends EventEmitter {
  readonly all: Line[] = []
  add(fields: object, msg: string): void {
    this.all.push({ ...fields, msg, at: Date.now() } as Line)
    this.emit('line')
  }
  of(event: string, subject?: string): Line[] {
    return this.all.filter((line) => line.event === event && (subject === undefined || line.subject === subject))
  }
  async waitFor(event: string, subject: string, count = 1): Promise<Line> {
    while (this.of(event, subject).length < count) await once(this, 'line', { signal: AbortSignal.timeout(15_000) })
    return this.of(event, subject)[count - 1] as Line
  }
}

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function setup() {
  const server = await startTestRedis()
  const redis = new Redis(server.url)
  redis.on('error', () => undefined)
  cleanups.push(
    () => server.stop(),
    () => redis.disconnect(),
  )
  return { server, redis, lines: new Lines() }
}

class CountedCycles extends EventEmitter {
  cycles = 0
  cycleEnded(): void {
    this.cycles++
    this.emit('cycle')
  }
  lineWritten(): void {}
  detected(): void {}
  /** Awaits that many more cycles. */
  async more(count: number): Promise<void> {
    const until = this.cycles + count
    while (this.cycles < until) await once(this, 'cycle', { signal: AbortSignal.timeout(15_000) })
  }
}

async function startWatchdog({ server, lines }: { server: TestRedis; lines: Lines }, watchdogId: string) {
  const redis = connectRedis(server.url, 'watch', { commandTimeout: 300 })
  const subscriber = connectRedis(server.url, 'subscriber')
  const log = {
    info: (fields: object, msg: string) => lines.add(fields, msg),
    warn: (fields: object, msg: string) => lines.add(fields, msg),
  }
  const telemetry = new CountedCycles()
  const loop = new WatchLoop({
    watchdogId,
    clock: systemClock,
    store: redisWatchStore({ redis, keys, watchdogId, timeoutMs: TIMEOUT_MS }),
    incidents: redisIncidents(redis, keys),
    queueFacts: redisQueueFacts({ redis, keys, bullPrefix: 'bull', now: () => Date.now(), onError: () => undefined }),
    hints: redisHints(subscriber, keys),
    log,
    telemetry,
    newId: () => randomUUID(),
    timeoutMs: TIMEOUT_MS,
    intervalMs: 200,
    goneAfterMs: 600_000,
    redisUnreachableAfterMs: 500,
    queues: ['img'],
    thresholdsOf: () => ({ noWorkerAfterMs: 700, notMovingAfterMs: 700 }),
  })
  if (redis.status !== 'ready') await once(redis, 'ready')
  await loop.start()
  cleanups.push(async () => {
    await loop.stop()
    redis.disconnect()
  })
  return { loop, telemetry, settled: () => waitUntilSettled(loop, telemetry) }
}

async function waitUntilSettled(loop: WatchLoop, telemetry: CountedCycles): Promise<void> {
  while (loop.view.sight.judges !== 'all') await telemetry.more(1)
}

async function startSupervisor(redis: Redis, first: Beat, incarnation = 'a-1'): Promise<FakeSupervisor> {
  const supervisor = await startFakeSupervisor(redis, { first, incarnation, timeoutMs: TIMEOUT_MS })
  cleanups.push(() => supervisor.stopBeating())
  return supervisor
}

describe('three watchdogs on one Redis', () => {
  it('B1 say one STUCK and one RESUMED for a blocked thread, within the threshold and 250 ms', async () => {
    const context = await setup()
    const watchdogs = await Promise.all(['w1', 'w2', 'w3'].map((id) => startWatchdog(context, id)))
    const supervisor = await startSupervisor(context.redis, beatOf())
    await Promise.all(watchdogs.map(({ settled }) => settled()))

    const job = jobOf({ step: 'resize', stepMs: 12_000, silentMs: 12_000 })
    const lateAt = Date.now()
    await supervisor.become(beatOf({ threads: [threadOf({ tickAgeMs: 12_000 })], jobs: [job] }))
    const subject = 'supervisor:a/thread:img:1'
    const stuck = await context.lines.waitFor('stuck', subject)
    expect(stuck.at - lateAt).toBeLessThan(250)
    expect(stuck.msg).toBe('STUCK supervisor:a/thread:img:1: thread_blocked for 12 s, in step resize (12 s) of job 17')
    await Promise.all(watchdogs.map(({ telemetry }) => telemetry.more(10)))

    await supervisor.become(beatOf())
    const resumed = await context.lines.waitFor('resumed', subject)
    expect(resumed).toMatchObject({ outcome: 'recovered', incidentId: stuck['incidentId'] })
    await Promise.all(watchdogs.map(({ telemetry }) => telemetry.more(5)))
    expect(context.lines.all).toHaveLength(2)
  })

  it('B1 one of them restarted repeats nothing, and process_dead ends as replaced by a new incarnation', async () => {
    const context = await setup()
    const [first, second] = await Promise.all(['w1', 'w2'].map((id) => startWatchdog(context, id)))
    const supervisor = await startSupervisor(context.redis, beatOf())
    await Promise.all([first?.settled(), second?.settled()])
    supervisor.stopBeating()
    const silentAt = Date.now()
    const stuck = await context.lines.waitFor('stuck', 'supervisor:a')
    expect(stuck.cause).toBe('process_dead')
    expect(stuck.at - silentAt).toBeLessThan(TIMEOUT_MS + 250)
    await first?.loop.stop()
    const third = await startWatchdog(context, 'w1-again')
    await third.settled()
    await third.telemetry.more(3)
    expect(context.lines.all).toHaveLength(1)

    await startSupervisor(context.redis, beatOf({ incarnation: 'a-2' }), 'a-2')
    expect(await context.lines.waitFor('resumed', 'supervisor:a')).toMatchObject({ outcome: 'replaced' })
    expect(context.lines.all).toHaveLength(2)
  })

  it('C9 a death in a group and the return of its supervisor are each counted once', async () => {
    const context = await setup()
    const watchdogs = await Promise.all(['w1', 'w2', 'w3'].map((id) => startWatchdog(context, id)))
    const supervisor = await startSupervisor(context.redis, beatOf({ group: 'acme' }))
    await Promise.all(watchdogs.map(({ settled }) => settled()))
    const counted = () => context.redis.hmget(keys.restarts, 'died:acme', 'back:acme')
    supervisor.stopBeating()
    await context.lines.waitFor('stuck', 'supervisor:a')
    await Promise.all(watchdogs.map(({ telemetry }) => telemetry.more(5)))
    expect(await counted()).toEqual(['1', null])
    await startSupervisor(context.redis, beatOf({ group: 'acme', incarnation: 'a-2' }), 'a-2')
    expect(await context.lines.waitFor('resumed', 'supervisor:a')).toMatchObject({ outcome: 'replaced' })
    await Promise.all(watchdogs.map(({ telemetry }) => telemetry.more(5)))
    expect(await counted()).toEqual(['1', '1'])
  })

  it('B1 a line that a killed watchdog won and never wrote is written by another, once', async () => {
    const context = await setup()
    const incidents = redisIncidents(context.redis, keys)
    const draft = {
      incidentId: 'x',
      subjectKind: 'queue',
      subject: 'queue:img',
      cause: 'scheduler_overdue',
      ageMs: 1,
      thresholdMs: 0,
    } as const
    await incidents.open({ ...draft, since: new Date(0).toISOString(), watchdogId: 'dead', queue: 'img', count: 1 }, 0)
    const watchdogs = await Promise.all(['w1', 'w2', 'w3'].map((id) => startWatchdog(context, id)))
    await context.lines.waitFor('stuck', 'queue:img')
    await Promise.all(watchdogs.map(({ telemetry }) => telemetry.more(15)))
    expect(context.lines.of('stuck')).toHaveLength(1)
  })

  it('B3 with Redis frozen each says redis_unreachable once, nothing else, and resumes once', async () => {
    const context = await setup()
    const watchdogs = await Promise.all(['w1', 'w2', 'w3'].map((id) => startWatchdog(context, id)))
    await startSupervisor(context.redis, beatOf())
    await Promise.all(watchdogs.map(({ settled }) => settled()))
    const pausedAt = Date.now()
    context.server.pause()
    const last = await context.lines.waitFor('stuck', 'redis', 3)
    expect(last.at - pausedAt).toBeLessThan(500 + 250)
    await Promise.all(watchdogs.map(({ telemetry }) => telemetry.more(4)))
    context.server.resume()
    await context.lines.waitFor('resumed', 'redis', 3)
    await Promise.all(watchdogs.map(({ settled }) => settled()))
    await Promise.all(watchdogs.map(({ telemetry }) => telemetry.more(5)))
    expect(context.lines.all.map(({ event, subject }) => `${event} ${subject}`).sort()).toEqual([
      ...Array<string>(3).fill('resumed redis'),
      ...Array<string>(3).fill('stuck redis'),
    ])
    expect(new Set(context.lines.of('stuck').map(({ watchdogId }) => watchdogId)).size).toBe(3)
    const recorded = await redisIncidents(context.redis, keys).recent(10)
    expect(recorded).toHaveLength(6)
  })

  it('B3 with the store flushed each is blind for a while, nobody is accused, and what was open still ends once', async () => {
    const context = await setup()
    const supervisor = await startSupervisor(context.redis, beatOf())
    const watchdogs = await Promise.all(['w1', 'w2', 'w3'].map((id) => startWatchdog(context, id)))
    await Promise.all(watchdogs.map(({ settled }) => settled()))
    await supervisor.become(beatOf({ main: { ageMs: 6000, thresholdMs: 5000 } }))
    await context.lines.waitFor('stuck', 'supervisor:a/main')
    await Promise.all(watchdogs.map(({ telemetry }) => telemetry.more(2)))
    await context.redis.flushall()
    await Promise.all(['w1', 'w2', 'w3'].map((id) => context.lines.waitFor('stuck', `watchdog:${id}`)))
    await Promise.all(['w1', 'w2', 'w3'].map((id) => context.lines.waitFor('resumed', `watchdog:${id}`)))
    await supervisor.become(beatOf())
    await context.lines.waitFor('resumed', 'supervisor:a/main')
    expect(context.lines.all.every(({ subject, cause }) => subject === 'supervisor:a/main' || cause === 'watchdog_blind')).toBe(
      true,
    )
    expect(context.lines.all).toHaveLength(8)
  })

  it('B1 a store flushed in the moment in which an incident ended does not bring that incident back', async () => {
    const context = await setup()
    const supervisor = await startSupervisor(context.redis, beatOf())
    const { settled } = await startWatchdog(context, 'w1')
    await settled()
    await supervisor.become(beatOf({ main: { ageMs: 6000, thresholdMs: 5000 } }))
    await context.lines.waitFor('stuck', 'supervisor:a/main')
    await supervisor.become(beatOf())
    await context.lines.waitFor('resumed', 'supervisor:a/main')
    await context.redis.flushall()
    await context.lines.waitFor('stuck', 'watchdog:w1')
    await context.lines.waitFor('resumed', 'watchdog:w1')
    expect(await context.redis.hlen('{unstuck}:open')).toBe(0)
    expect(context.lines.all).toHaveLength(4)
  })

  it('B8 B9 jobs without a worker are no_eligible_worker, a paused queue is none, and an emptied one says drained', async () => {
    const context = await setup()
    const { settled } = await startWatchdog(context, 'w1')
    const queue = queueKeys('bull', 'img')
    await settled()
    const addedAt = Date.now()
    await context.redis.lpush(queue.wait, '1')
    const stuck = await context.lines.waitFor('stuck', 'queue:img')
    expect(stuck).toMatchObject({ cause: 'no_eligible_worker' })
    expect(stuck.at - addedAt).toBeLessThan(700 + 250)
    await context.redis.hset(queue.meta, 'paused', 1)
    expect(await context.lines.waitFor('resumed', 'queue:img')).toMatchObject({ outcome: 'stopped' })
    await context.redis.hdel(queue.meta, 'paused')
    await context.lines.waitFor('stuck', 'queue:img', 2)
    await context.redis.del(queue.wait)
    expect(await context.lines.waitFor('resumed', 'queue:img', 2)).toMatchObject({ outcome: 'drained' })
  })

  it('B2 a queue that does not move is said while its supervisor beats, and is covered by its wedged fetch loop', async () => {
    const context = await setup()
    const { settled, telemetry } = await startWatchdog(context, 'w1')
    const supervisor = await startSupervisor(context.redis, beatOf())
    await settled()
    await context.redis.lpush(queueKeys('bull', 'img').wait, '1')
    expect(await context.lines.waitFor('stuck', 'queue:img')).toMatchObject({ cause: 'queue_not_moving' })
    await context.redis.del(queueKeys('bull', 'img').wait)
    await context.lines.waitFor('resumed', 'queue:img')
    await supervisor.become(beatOf({ loops: [loopOf({ ageMs: 66_000, phase: 'moveToActive' })] }))
    expect(await context.lines.waitFor('stuck', 'supervisor:a/loop:fetch:img')).toMatchObject({
      cause: 'poll_stale',
      phase: 'moveToActive',
    })
    await context.redis.lpush(queueKeys('bull', 'img').wait, '2')
    await telemetry.more(10)
    expect(context.lines.of('stuck', 'queue:img')).toHaveLength(1)
  })

  it('B4 a watchdog that dies without a goodbye is seen by another', async () => {
    const context = await setup()
    const { settled } = await startWatchdog(context, 'w1')
    await settled()
    await context.redis.zadd(keys.watchdogs, Date.now() - 10_000, 'w0')
    expect(await context.lines.waitFor('stuck', 'watchdog:w0')).toMatchObject({ cause: 'watchdog_lost' })
    await context.redis.zrem(keys.watchdogs, 'w0')
    expect(await context.lines.waitFor('resumed', 'watchdog:w0')).toMatchObject({ outcome: 'stopped' })
  })
})

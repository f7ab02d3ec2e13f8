/**
 * Behaviours that hold for a long time: the same scenario runs with scaled thresholds in `npm test` and at full length
 * in `npm run test:soak`.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { type LogLine, type Running, scene, until } from './processes.js'

export interface Pace {
  /** How long nothing may be reported. */
  readonly durationMs: number
  readonly pollIntervalMs: number
  readonly pollStaleThresholdMs: number
  readonly beatMs: number
  readonly timeoutMs: number
  readonly threadBlockedMs: number
  readonly silentAfterMs: number
}

/** The defaults of the product. */
export const FULL: Pace = {
  durationMs: 30 * 60_000,
  pollIntervalMs: 5000,
  pollStaleThresholdMs: 60_000,
  beatMs: 1000,
  timeoutMs: 5000,
  threadBlockedMs: 10_000,
  silentAfterMs: 300_000,
}

/** The same within a CI run. */
export const SCALED: Pace = {
  durationMs: 20_000,
  pollIntervalMs: 1000,
  pollStaleThresholdMs: 3000,
  beatMs: 500,
  timeoutMs: 2000,
  // Wide enough that a tenth of it outlasts a slow machine's scheduler.
  threadBlockedMs: 4000,
  silentAfterMs: 4000,
}

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms))

/** The two kinds of line that accuse. */
export const accusations = (watchdog: Running) =>
  watchdog.lines.filter((line: LogLine) => line.event === 'stuck').map((line) => line.msg)

function configOf(pace: Pace, handler: string, threads: number) {
  return {
    loops: { pollIntervalMs: pace.pollIntervalMs, pollStaleThresholdMs: pace.pollStaleThresholdMs },
    heartbeat: {
      intervalMs: pace.beatMs,
      timeoutMs: pace.timeoutMs,
      loopBlockedMs: pace.timeoutMs,
      threadBlockedMs: pace.threadBlockedMs,
    },
    watchdog: { intervalMs: pace.beatMs, redisUnreachableAfterMs: pace.timeoutMs },
    supervisor: { name: 'only' },
    queues: {
      jobs: {
        handler,
        threads,
        silentAfterMs: pace.silentAfterMs,
        notMovingAfterMs: 2 * pace.pollStaleThresholdMs,
        noWorkerAfterMs: pace.timeoutMs,
      },
    },
  }
}

/** A15: idle threads, threads that come and go, an empty queue. */
export async function idleIsQuiet(pace: Pace): Promise<void> {
  const stage = await scene()
  const handler = stage.handler('jobs', "export default (job) => { if (job.name === 'exit') process.exit(1) }")
  const config = stage.config('quiet', configOf(pace, handler, 4))
  const watchdog = await stage.watchdog(config)
  const supervisor = await stage.supervisor(config)
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url } })
  // Threads come and go: each of these ends one, and piscina makes another.
  await dispatcher.addBulk(
    'jobs',
    Array.from({ length: 8 }, () => ({ name: 'exit', attempts: 1 })),
  )
  await until(
    () => stage.client.zcard('bull:jobs:failed'),
    (count) => count === 8,
  )
  await dispatcher.close()
  await sleep(pace.durationMs)
  expect(accusations(watchdog)).toEqual([])
  // What the eight jobs did is said, gathered, and nothing else.
  const said = supervisor.lines.filter((line) => line.level >= 40)
  expect(new Set(said.map(({ event }) => event))).toEqual(new Set(['attempts_exhausted', 'breaker_open']))
  const exhausted = said.filter(({ event }) => event === 'attempts_exhausted').map((line) => Number(line['count']))
  expect(exhausted.reduce((sum, count) => sum + count, 0)).toBe(8)
}

/** A16: four times more busy threads than cores, each job at 0.9 of every threshold. */
export async function busyIsQuiet(pace: Pace, cores: number): Promise<void> {
  const stage = await scene()
  // Half of them burn the CPU in one synchronous stretch, half wait in silence.
  const handler = stage.handler(
    'jobs',
    `export default async (job, ctx) => {
      const spin = (ms) => { const end = performance.now() + ms; while (performance.now() < end); }
      if (job.name === 'spin') return ctx.step('spin', () => spin(${0.9 * pace.threadBlockedMs}))
      await ctx.step('wait', () => new Promise((done) => setTimeout(done, ${0.9 * pace.silentAfterMs})))
    }`,
  )
  const threads = 4 * cores
  const config = stage.config('busy', configOf(pace, handler, threads))
  const watchdog = await stage.watchdog(config)
  await stage.supervisor(config)
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url } })
  const rounds = Math.ceil((threads * pace.durationMs) / (0.9 * Math.min(pace.threadBlockedMs, pace.silentAfterMs)))
  await dispatcher.addBulk(
    'jobs',
    Array.from({ length: rounds }, (_, index) => ({ name: index % 2 === 0 ? 'spin' : 'wait' })),
  )
  await dispatcher.close()
  await sleep(pace.durationMs)
  expect(await stage.client.zcard('bull:jobs:completed')).toBeGreaterThan(threads)
  expect(accusations(watchdog)).toEqual([])
}

/** B4: a watchdog stopped for `pauseMs` says that it was blind, and accuses nobody for an interval after. */
export async function pausedWatchdogAccusesNobody(pace: Pace, pauseMs: number): Promise<void> {
  const stage = await scene()
  const config = stage.config('paused', configOf(pace, stage.handler('jobs', 'export default () => 1'), 2))
  const paused = await stage.watchdog(config)
  const other = await stage.watchdog(config)
  await stage.supervisor(config)
  await sleep(2 * pace.timeoutMs)
  paused.kill('SIGSTOP')
  const lost = await other.line((line) => line['cause'] === 'watchdog_lost' && line.event === 'stuck')
  expect(lost['subject']).toMatch(/^watchdog:/)
  await sleep(pauseMs)
  paused.kill('SIGCONT')
  const blind = await paused.line((line) => line['cause'] === 'watchdog_blind' && line.event === 'stuck')
  const clear = await paused.line((line) => line.event === 'resumed' && line['incidentId'] === blind['incidentId'])
  expect(clear['durationMs']).toBeGreaterThanOrEqual(pace.timeoutMs)
  await sleep(pace.timeoutMs)
  expect(accusations(paused).filter((msg) => !msg.includes('watchdog_blind'))).toEqual([])
  expect(accusations(other).filter((msg) => !msg.includes('watchdog_lost'))).toEqual([])
}

/** B3: Redis away under a fleet with running jobs: each watchdog says it once, nobody else is accused, no job starts twice. */
export async function outageUnderAFleet(supervisors: number, awayMs: number): Promise<void> {
  const stage = await scene()
  const handler = stage.handler(
    'work',
    `import { appendFileSync, existsSync } from 'node:fs'
    export default async (job, ctx) => {
      appendFileSync('starts', job.id + '\\n')
      while (!existsSync('release')) { ctx.heartbeat(); await new Promise((done) => setTimeout(done, 200)) }
    }`,
  )
  const config = stage.config('fleet', {
    queues: { jobs: { handler, threads: 1, lockDurationMs: Math.min(30_000, awayMs / 2) } },
  })
  const watchdogs = [await stage.watchdog(config), await stage.watchdog(config)]
  const fleet: Running[] = []
  for (let index = 0; index < supervisors; index += 1) fleet.push(await stage.supervisor(config, ['--name', `s${index}`]))
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url } })
  await dispatcher.addBulk(
    'jobs',
    Array.from({ length: supervisors }, () => ({})),
  )
  await dispatcher.close()
  const starts = () => readFileSync(join(stage.dir, 'starts'), 'utf8').trim().split('\n').length
  await until(
    () => stage.client.llen('bull:jobs:active'),
    (count) => count === supervisors,
  )
  await sleep(2 * FULL.timeoutMs)
  stage.redis.pause()
  await sleep(awayMs)
  stage.redis.resume()
  for (const watchdog of watchdogs) {
    await watchdog.line((line) => line.event === 'resumed' && line['subject'] === 'redis')
  }
  // Time enough for a reaper or a watchdog to make its mistake.
  await sleep(2 * FULL.timeoutMs + 2 * FULL.pollIntervalMs)
  for (const watchdog of watchdogs) {
    expect(watchdog.lines.filter((line) => line.event === 'stuck').map((line) => line['cause'])).toEqual(['redis_unreachable'])
  }
  expect(starts()).toBe(supervisors)
  writeFileSync(join(stage.dir, 'release'), '')
  await until(
    () => stage.client.zcard('bull:jobs:completed'),
    (count) => count === supervisors,
  )
  expect(starts()).toBe(supervisors)
  expect(fleet.flatMap((one) => one.lines.filter((line) => line.event === 'orphan_reaped'))).toEqual([])
}

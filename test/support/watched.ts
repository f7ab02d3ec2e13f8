/** Programs of somebody else's that are watched: a BullMQ worker with the one line added, and a daemon with loops of its own. */
import { join } from 'node:path'
import { Queue } from 'bullmq'
import { expect, onTestFinished } from 'vitest'
import { type LogLine, launch, type Running, type Scene, scene } from './processes.js'
import type { TestRedisOptions } from './redis.js'

const FIXTURES = join(import.meta.dirname, '../fixtures/watched')

/** Short thresholds, so that what is wrong shows within seconds. */
const HEARTBEAT = {
  UNSTUCK_HEARTBEAT_INTERVAL_MS: '500',
  UNSTUCK_HEARTBEAT_TIMEOUT_MS: '3000',
  UNSTUCK_LOOP_BLOCKED_MS: '1500',
}
/** Options of `watchWorker` to go with them. */
export const QUICK_WATCH = { loops: { pollStaleThresholdMs: 2500, startGraceMs: 2500 }, silentAfterMs: 2000 }

const quick = {
  heartbeat: { intervalMs: 500, timeoutMs: 3000, loopBlockedMs: 1500, threadBlockedMs: 1500 },
  watchdog: { intervalMs: 500 },
}

export interface Watching extends Scene {
  readonly watchdog1: Running
  readonly queue: Queue
  /** Starts the program; `env` over what makes it quick. */
  program(name: 'worker' | 'daemon', env?: NodeJS.ProcessEnv): Promise<Running>
  stuck(cause: string): Promise<LogLine>
  resumed(line: LogLine): Promise<LogLine>
  /** Every transition said so far, as `stuck SUBJECT CAUSE`. */
  said(): string[]
}

export interface WatchingOptions {
  readonly redis?: TestRedisOptions
  /** Sections of the watchdog's config, over the quick ones. */
  readonly watchdog?: object
}

export async function watching({ redis = {}, watchdog = {} }: WatchingOptions = {}): Promise<Watching> {
  const stage = await scene(redis)
  const watchdog1 = await stage.watchdog(stage.config('watchdog', { ...quick, ...watchdog }))
  const queue = new Queue('mail', { connection: { url: stage.redis.url, maxRetriesPerRequest: null } })
  queue.on('error', () => undefined)
  onTestFinished(() => queue.close())
  return {
    ...stage,
    watchdog1,
    queue,
    async program(name, env = {}) {
      const running = launch(process.execPath, [join(FIXTURES, `${name}.mjs`)], {
        env: { REDIS_URL: stage.redis.url, WATCH: JSON.stringify(QUICK_WATCH), ...HEARTBEAT, ...env },
      })
      await running.line((line) => line.event === 'ready')
      return running
    },
    stuck: (cause) => watchdog1.line((line) => line.event === 'stuck' && line['cause'] === cause),
    resumed: async (line) => {
      const end = await watchdog1.line((one) => one.event === 'resumed' && one['incidentId'] === line['incidentId'])
      expect(end['subject']).toBe(line['subject'])
      return end
    },
    said: () =>
      watchdog1.lines
        .filter(({ event }) => event === 'stuck' || event === 'resumed')
        .map((line) => `${line.event} ${line['subject']} ${line['cause']}`),
  }
}

/** A line of the program itself: what happened to this job. */
export const said = (event: string, id: string) => (line: LogLine) => line.event === event && line['id'] === id

/** What BullMQ itself complained of, through the worker's `error` event. */
export const complaints = (worker: Running) =>
  worker.lines.filter(({ event }) => event === 'worker_error').map((line) => line['error'])

/** Past its threshold, and not by much more than a busy machine takes. */
export function expectInTime(line: LogLine): void {
  const late = Number(line['ageMs']) - Number(line['thresholdMs'])
  expect(late).toBeGreaterThan(0)
  expect(late).toBeLessThan(15_000)
}

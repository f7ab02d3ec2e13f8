/** The page in front of a real watchdog, with real supervisors, jobs and a Redis of their own. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { type VisitOptions, visit } from './browser.js'
import { scene, until } from './processes.js'

/** Short thresholds, so that a wedge shows within seconds. */
const QUICK = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 2500, startGraceMs: 2500 },
  heartbeat: { intervalMs: 200, timeoutMs: 1500, loopBlockedMs: 1500, threadBlockedMs: 1500 },
  watchdog: { intervalMs: 250, redisUnreachableAfterMs: 1500 },
}

export interface RealPageOptions {
  /** Source of the module that runs the jobs. */
  readonly handler: string
  /** Of the config, for the watchdog. */
  readonly http?: object
  /** Of the config, for the queue `jobs`. */
  readonly queue?: object
  /** Queues beside `jobs`, with the same handler. */
  readonly more?: readonly string[]
}

export async function realPage(browser: Browser, { handler, http = {}, queue = {}, more = [] }: RealPageOptions) {
  const stage = await scene()
  const path = stage.handler('jobs', handler)
  const settings = { handler: path, threads: 2, attempts: { max: 1 }, ...queue }
  const queues = Object.fromEntries(['jobs', ...more].map((name) => [name, settings]))
  const watchdog = await stage.watchdog(stage.config('watchdog', { ...QUICK, queues, http }))
  const { msg } = await watchdog.line(({ event }) => event === 'started')
  const address = /http:\S+/.exec(msg)?.[0] ?? ''
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, queues })
  onTestFinished(() => dispatcher.close())
  const config = (redisUrl?: string) => stage.config('unstuck', { ...QUICK, queues }, redisUrl)
  const look = async (at = '/', options: VisitOptions = {}) => {
    const seen = await visit(browser, `${address}${at}`, options)
    onTestFinished(() => seen.context.close())
    return seen
  }
  const file = (name: string) => join(stage.dir, name)
  return {
    ...{ address, dispatcher, look, redis: stage.redis },
    exists: (name: string) => until(async () => existsSync(file(name)), Boolean),
    /** Lines of a file that jobs write; none before it is there. */
    linesOf: (name: string) => (existsSync(file(name)) ? readFileSync(file(name), 'utf8').trim().split('\n') : []),
    touch: (name: string) => writeFileSync(file(name), ''),
    supervise: (name = 's1', redisUrl?: string) => stage.supervisor(config(redisUrl), ['--name', name]),
    statusOf: async (queueName: string, id: string) => (await dispatcher.job(queueName, id)).status,
  }
}

/**
 * What the watchdog's API costs its lines. A real watchdog over a small fleet that beats; in windows of time that take
 * turns, without and with clients of its API, single supervisors fall ill, and their STUCK lines are timed beyond their
 * thresholds. The clients are a process of their own. A first window with clients is not counted: it warms up, and fills
 * the list of incidents as far as the API looks back.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { fleetKeys } from '../dist/platform/redis-keys.js'
import { FLEET_QUEUE } from './lib/beats.mjs'
import { admit, ailments, PATIENTS_QUEUE } from './lib/patient.mjs'
import { ask, cpuMicrosOf, end, forkModule, rssMbOf, started } from './lib/processes.mjs'
import { median, quantile } from './lib/stats.mjs'
import { Lines, queuesOf, startWatchdog } from './lib/watch.mjs'

const PREFIX = '{unstuck}'
const FLEET = 40
const JOBS = 500
const CLEAR_AFTER_START_MS = 7000
/** The last to fall ill does so this long before its window ends, so that its line is still in it. */
const LAST_ILL_MS = 4500
/** From a line to the last listener of its event. */
const LAST_HEARD_MS = 1000
/** What was under way when the clients left. */
const SETTLE_MS = 2000
const RSS_EVERY_MS = 1000
const PATHS = [
  '/api/v1/health',
  '/api/v1/supervisors',
  '/api/v1/queues',
  '/api/v1/incidents',
  `/api/v1/queues/${FLEET_QUEUE}/jobs`,
]

/** @param warmUp, windows each of so long, `ill` of every cause in each */
export async function httpLoad({ url, listeners, readsPerSecond, warmUp, windows, window }) {
  const redis = new Redis(url)
  const keys = fleetKeys(PREFIX)
  const lines = new Lines(({ subject }) => void redis.del(keys.flapping(subject)))
  await fillQueue(url)
  const fleet = await started(forkModule('./fleet.mjs', [url, PREFIX, '0', String(FLEET)]))
  const config = { redis: { url, prefix: PREFIX }, queues: queuesOf([FLEET_QUEUE, PATIENTS_QUEUE]) }
  const { child: watchdog, port } = await startWatchdog('watchdog-http', config, lines.heard)
  const clients = await started(forkModule('./http-clients.mjs', [String(port), JSON.stringify(PATHS)]))
  await sleep(CLEAR_AFTER_START_MS)

  const scene = { redis, lines, watchdog, clients, load: { listeners, readsPerSecond }, admitted: 0 }
  await loaded(scene, warmUp)
  const without = []
  const withLoad = []
  for (let turn = 0; turn < windows; turn += 1) {
    without.push(await measured(scene, window))
    withLoad.push(await loaded(scene, window))
  }
  for (const child of [clients, fleet]) await end(child)
  await end(watchdog, 'SIGTERM')
  redis.disconnect()
  return {
    ...{ fleet: FLEET, listeners, readsPerSecond, took: `${windows} × ${window.ms / 1000} s` },
    without: summary(without),
    with: { ...summary(withLoad), ...served(withLoad.map(({ answered }) => answered)) },
    rss: memoryOf(withLoad),
    missed: [...without, ...withLoad].reduce((sum, { missed }) => sum + missed, 0),
    falseAlarms: lines.falseAlarms,
  }
}

/** Delayed ones: nobody is there to take them. */
async function fillQueue(url) {
  const queue = new Queue(FLEET_QUEUE, { connection: { url } })
  const data = { video: 's3://bucket/path/to/a/film.mp4', preset: 'default' }
  await queue.addBulk(Array.from({ length: JOBS }, () => ({ name: 'encode', data, opts: { delay: 3_600_000, attempts: 3 } })))
  await queue.close()
}

async function loaded(scene, window) {
  await ask(scene.clients, scene.load)
  const result = await measured(scene, window)
  await sleep(LAST_HEARD_MS)
  const answered = await ask(scene.clients, 'end')
  await sleep(SETTLE_MS)
  return { ...result, answered }
}

async function measured(scene, { ms, ill }) {
  const { watchdog } = scene
  const late = []
  const rss = [rssMbOf(watchdog.pid)]
  const looking = setInterval(() => rss.push(rssMbOf(watchdog.pid)), RSS_EVERY_MS)
  const began = { at: performance.now(), cpu: cpuMicrosOf(watchdog.pid) }
  const causes = Object.keys(ailments).flatMap((cause) => Array.from({ length: ill }, () => cause))
  await Promise.all([sleep(ms), ...causes.map((cause) => onePatient(scene, cause, ms - LAST_ILL_MS, late))])
  clearInterval(looking)
  const cpuPercent = (cpuMicrosOf(watchdog.pid) - began.cpu) / (performance.now() - began.at) / 10
  return {
    late: late.filter((one) => one !== undefined),
    missed: late.filter((one) => one === undefined).length,
    rss,
    cpuPercent,
  }
}

/** Causes must fall anywhere between two looks and two beats. */
async function onePatient(scene, cause, withinMs, late) {
  await sleep(Math.random() * withinMs)
  scene.admitted += 1
  const patient = await admit({ redis: scene.redis, prefix: PREFIX, cause, number: scene.admitted })
  await sleep(Math.random() * 1000)
  const line = scene.lines.next('stuck', cause, patient.subject)
  const causeAt = patient.fallIll()
  const lineAt = await line
  late.push(lineAt === undefined ? undefined : lineAt - causeAt - patient.thresholdMs)
  await patient.discharge()
}

function summary(windows) {
  const late = windows.flatMap((window) => window.late)
  const cpuPercent = median(windows.map((window) => window.cpuPercent))
  return { count: late.length, p50: quantile(late, 0.5), p99: quantile(late, 0.99), cpuPercent, late }
}

function served(answers) {
  const all = answers.flatMap(({ took }) => Object.values(took).flat())
  const seconds = answers.reduce((sum, answer) => sum + answer.seconds, 0)
  const sum = (of) => answers.reduce((total, answer) => total + answer[of], 0)
  const kinds = PATHS.map((path) => {
    const took = answers.flatMap((answer) => answer.took[path])
    return { path, p50: quantile(took, 0.5), p99: quantile(took, 0.99) }
  })
  return {
    reads: { perSecond: all.length / seconds, p50: quantile(all, 0.5), p99: quantile(all, 0.99), kinds },
    unserved: sum('failed') + sum('unasked') + sum('unanswered'),
    ...{ lost: sum('lost'), leastHeard: sum('leastStuck') },
    clientsCpuPercent: median(answers.map(({ cpuPercent }) => cpuPercent)),
  }
}

const LOOKS = 5

/** Between two collections of garbage memory goes up and down: medians of a few looks are compared. */
function memoryOf(windows) {
  const rss = windows.flatMap((window) => window.rss)
  return { startMb: median(rss.slice(0, LOOKS)), endMb: median(rss.slice(-LOOKS)), mostMb: Math.max(...rss) }
}

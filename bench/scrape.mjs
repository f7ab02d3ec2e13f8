/** What one scrape of a watchdog costs: latency as Prometheus sees it, and the watchdog's and Redis's CPU for it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { redisBeatWriter } from '../dist/heartbeat/redis-heartbeats.js'
import { healthyBeat, loop } from './lib/beats.mjs'
import { cpuMicrosOf, end } from './lib/processes.mjs'
import { quantile } from './lib/stats.mjs'
import { queuesOf, startWatchdog } from './lib/watch.mjs'

const QUEUES = ['mail', 'images']
/** Long enough that nobody beats, and nobody dies, while it is measured. */
const TIMEOUT_MS = 600_000
const WARM_UP = 20

/** @param supervisors with a fetch loop for each of two queues, and a reconcile loop */
export async function scrape({ url, supervisors, scrapes, everyMs }) {
  const redis = new Redis(url)
  await fill(redis, supervisors)
  const { child, port } = await startWatchdog('scrape', { redis: { url }, queues: queuesOf(QUEUES) })
  const ask = async () => {
    const began = performance.now()
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    return { ms: performance.now() - began, text }
  }
  for (let index = 0; index < WARM_UP; index += 1) await ask()
  const idle = await cpuOver(child.pid, async () => sleep(scrapes * everyMs))
  const answers = []
  const busy = await cpuOver(child.pid, async () => {
    for (let index = 0; index < scrapes; index += 1) {
      answers.push(await ask())
      await sleep(Math.max(0, everyMs - answers.at(-1).ms))
    }
  })
  redis.disconnect()
  await end(child, 'SIGTERM')
  const times = answers.map(({ ms }) => ms)
  const { text } = answers.at(-1)
  return {
    supervisors,
    series: text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length,
    loops: text.split('\n').filter((line) => line.startsWith('unstuck_poll_lag_seconds{')).length,
    medianMs: quantile(times, 0.5),
    p95Ms: quantile(times, 0.95),
    cpuMs: (busy.micros - idle.micros * (busy.ms / idle.ms)) / scrapes / 1000,
  }
}

async function cpuOver(pid, run) {
  const began = performance.now()
  const before = cpuMicrosOf(pid)
  await run()
  return { micros: cpuMicrosOf(pid) - before, ms: performance.now() - began }
}

async function fill(redis, count) {
  const members = Array.from({ length: count }, (_, index) => `sim-${String(index).padStart(5, '0')}`)
  for (const supervisor of members) {
    const incarnation = `${supervisor}-1`
    const common = { prefix: '{unstuck}', host: 'bench', pid: 1, timeoutMs: TIMEOUT_MS, queues: QUEUES }
    const writer = redisBeatWriter(redis, { ...common, supervisor, incarnation })
    await writer.register()
    const beat = healthyBeat({ supervisor, incarnation, seq: 1, uptimeMs: 60_000, queue: QUEUES[0] })
    const loops = [...beat.loops, loop({ loop: 'fetch', queue: QUEUES[1], ageMs: 300 })]
    const queues = QUEUES.map((queue) => ({ ...beat.queues[0], queue }))
    await writer.beat({ ...beat, timeoutMs: TIMEOUT_MS, loops, queues }, false, false)
  }
}

/** What a watchdog costs while nothing is due: its own CPU, and Redis's time for each of its cycles. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { FLEET_QUEUE } from './lib/beats.mjs'
import { ask, cpuMicrosOf, end, rssMbOf } from './lib/processes.mjs'
import { median } from './lib/stats.mjs'
import { queuesOf, startWatchdog } from './lib/watch.mjs'

const CLEAR_AFTER_START_MS = 7000
/** The fleet's beats stay good for 5 s: shorter than that it may be silent without anything falling due. */
const SILENT_MS = 2500
const BETWEEN_MS = 1500
/** Beats under way when the fleet is told to be silent. */
const SETTLE_MS = 100

/** @param fleet the processes that beat: paused while Redis's time is read, so that all of it is the watchdog's */
export async function watchdogCost({ url, fleet, cpuMs, windows }) {
  const stuck = []
  const config = { redis: { url }, queues: queuesOf([FLEET_QUEUE]) }
  const watchdog = await startWatchdog('watchdog-cost', config, (line) => stuck.push(line.msg))
  const { child } = watchdog
  await sleep(CLEAR_AFTER_START_MS)

  const redis = new Redis(url)
  const look = async () => ({
    at: performance.now(),
    cpu: cpuMicrosOf(child.pid),
    beats: await beatsOf(fleet),
    ...(await scriptsOf(redis)),
  })
  const before = await look()
  await sleep(cpuMs)
  const after = await look()
  const seconds = (after.at - before.at) / 1000

  const perCycle = []
  for (let window = 0; window < windows; window += 1) {
    for (const one of fleet) await ask(one, 'pause')
    await sleep(SETTLE_MS)
    const from = await scriptsOf(redis)
    await sleep(SILENT_MS)
    const to = await scriptsOf(redis)
    for (const one of fleet) await ask(one, 'resume')
    perCycle.push((to.micros - from.micros) / (to.cycles - from.cycles))
    await sleep(BETWEEN_MS)
  }
  redis.disconnect()
  const rssMb = rssMbOf(child.pid)
  const scrapeMs = await scrape(watchdog)
  await end(child, 'SIGTERM')
  return {
    cpuPercent: (after.cpu - before.cpu) / seconds / 1e4,
    cyclesPerSecond: (after.cycles - before.cycles) / seconds,
    beatsPerSecond: (after.beats - before.beats) / seconds,
    redisMsPerCycle: median(perCycle) / 1000,
    rssMb,
    scrapeMs,
    falseAlarms: stuck,
  }
}

async function scrape({ port }) {
  const began = performance.now()
  await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  return performance.now() - began
}

async function beatsOf(fleet) {
  const counts = await Promise.all(fleet.map((one) => ask(one, 'beats')))
  return counts.reduce((sum, count) => sum + count, 0)
}

/**
 * Everything that a watchdog asks of Redis in a cycle is a script, whose time holds that of the commands in it. Each
 * look reads the set of queues once, and nobody else does: so many cycles there were.
 */
async function scriptsOf(redis) {
  const stats = await redis.info('commandstats')
  const micros = [...stats.matchAll(/^cmdstat_(?:evalsha|eval):calls=\d+,usec=(\d+)/gm)].reduce(
    (sum, [, usec]) => sum + Number(usec),
    0,
  )
  return { micros, cycles: Number(/^cmdstat_smembers:calls=(\d+)/m.exec(stats)?.[1] ?? 0) }
}

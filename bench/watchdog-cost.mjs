/** What a watchdog costs while nothing is due: its own CPU, and Redis's time for each of its cycles. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { FLEET_QUEUE } from './lib/beats.mjs'
import { ask, cpuMicrosOf, end, rssMbOf } from './lib/processes.mjs'
import { median } from './lib/stats.mjs'
import { cyclesOf, queuesOf, startWatchdog } from './lib/watch.mjs'

const CLEAR_AFTER_START_MS = 7000
/** The fleet's beats stay good for 5 s: shorter than that it may be silent without anything falling due. */
const SILENT_MS = 2500
const BETWEEN_MS = 1500

/** @param fleet the processes that beat: paused while Redis's time is read, so that all of it is the watchdog's */
export async function watchdogCost({ url, fleet, cpuMs, windows }) {
  const stuck = []
  const config = { redis: { url }, queues: queuesOf([FLEET_QUEUE]) }
  const watchdog = await startWatchdog('watchdog-cost', config, (line) => stuck.push(line.msg))
  const { child } = watchdog
  await sleep(CLEAR_AFTER_START_MS)

  const before = { cpu: cpuMicrosOf(child.pid), at: performance.now(), cycles: await cyclesOf(watchdog), beats: await beatsOf(fleet) }
  await sleep(cpuMs)
  const after = { cpu: cpuMicrosOf(child.pid), at: performance.now(), cycles: await cyclesOf(watchdog), beats: await beatsOf(fleet) }
  const seconds = (after.at - before.at) / 1000
  const cycles = after.cycles.count - before.cycles.count

  const redis = new Redis(url)
  const perCycle = []
  for (let window = 0; window < windows; window += 1) {
    for (const one of fleet) await ask(one, 'pause')
    await sleep(100)
    const from = { micros: await scriptMicros(redis), cycles: await cyclesOf(watchdog) }
    await sleep(SILENT_MS)
    const to = { micros: await scriptMicros(redis), cycles: await cyclesOf(watchdog) }
    for (const one of fleet) await ask(one, 'resume')
    perCycle.push((to.micros - from.micros) / (to.cycles.count - from.cycles.count))
    await sleep(BETWEEN_MS)
  }
  redis.disconnect()
  const rssMb = rssMbOf(child.pid)
  await end(child, 'SIGTERM')
  return {
    cpuPercent: (after.cpu - before.cpu) / seconds / 1e4,
    cyclesPerSecond: cycles / seconds,
    cycleMs: ((after.cycles.seconds - before.cycles.seconds) / cycles) * 1000,
    beatsPerSecond: (after.beats - before.beats) / seconds,
    redisMsPerCycle: median(perCycle) / 1000,
    rssMb,
    falseAlarms: stuck,
  }
}

async function beatsOf(fleet) {
  const counts = await Promise.all(fleet.map((one) => ask(one, 'beats')))
  return counts.reduce((sum, count) => sum + count, 0)
}

/** Everything that a watchdog asks of Redis in a cycle is a script; their time holds that of the commands in them. */
async function scriptMicros(redis) {
  const stats = await redis.info('commandstats')
  return [...stats.matchAll(/^cmdstat_(?:evalsha|eval):calls=\d+,usec=(\d+)/gm)].reduce((sum, [, micros]) => sum + Number(micros), 0)
}

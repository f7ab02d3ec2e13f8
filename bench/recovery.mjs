/** Many exhausted jobs in one queue: what they cost while nothing is due, and how they come back when somebody says so. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { orderBulkReset } from '../dist/recovery/redis-resets.js'
import { RECONCILER, seedExhausted } from './lib/exhausted.mjs'
import { end, forkModule, rssMbOf } from './lib/processes.mjs'
import { median } from './lib/stats.mjs'

const QUEUE = 'recovery'
const SETTINGS = 'bench-settings'
const POLL_MS = 100
/** Of the slow log: more than the pages of a release. */
const KEPT_CALLS = 10_000

export async function recovery({ url, jobs, perSecond, cycles }) {
  const redis = new Redis(url)
  const keys = await seedExhausted(redis, { queue: QUEUE, jobs, settings: SETTINGS })
  await redis.config('SET', 'slowlog-max-len', KEPT_CALLS)
  const child = forkModule('./reconciler.mjs', [url, QUEUE, String(perSecond), SETTINGS])
  await Promise.race([once(child, 'message'), once(child, 'exit')])
  // Its first pass over everything is through.
  await until(child, async () => (await redis.get(keys.settings)) === SETTINGS)
  const idle = await idleCycles(redis, child, cycles)
  const release = await releaseAll(redis, keys, { jobs, perSecond, child })
  await end(child)
  redis.disconnect()
  return { jobs, idle, release }
}

async function idleCycles(redis, child, cycles) {
  const before = await costOf(redis)
  let after = before
  await until(child, async () => {
    after = await costOf(redis)
    return after.cycles - before.cycles >= cycles
  })
  const counted = after.cycles - before.cycles
  return { cycles: counted, redisMs: (after.micros - before.micros) / counted / 1000 }
}

/**
 * A cycle is scripts, whose time holds that of the commands in them, and a few reads. It asks once for the open breakers,
 * and nobody else does: so many cycles there were.
 */
async function costOf(redis) {
  const stats = await redis.info('commandstats')
  const commands = [...stats.matchAll(/^cmdstat_(evalsha|eval|hgetall|hkeys|lrange):calls=(\d+),usec=(\d+)/gm)]
  return {
    micros: commands.reduce((sum, [, , , usec]) => sum + Number(usec), 0),
    cycles: Number(commands.find(([, command]) => command === 'hkeys')?.[2] ?? 0),
  }
}

async function releaseAll(redis, keys, { jobs, perSecond, child }) {
  const idleMb = rssMbOf(child.pid)
  let peakMb = idleMb
  const pages = await longCallsDuring(redis, async () => {
    await orderBulkReset(redis, keys, { by: 'hand', actor: 'bench' })
    await until(child, async () => {
      peakMb = Math.max(peakMb, rssMbOf(child.pid))
      return (await redis.llen(keys.campaigns)) === 0
    })
  })
  const planned = await redis.zcard(keys.delayed)
  const left = await redis.zcard(keys.exhausted)
  if (planned !== jobs || left > 0) throw new Error(`recovery: ${planned} of ${jobs} jobs planned, ${left} still exhausted`)
  return {
    perSecond,
    ...(await startsPerSecond(redis, keys)),
    idleMb,
    peakMb,
    calls: pages.length,
    medianMs: median(pages),
    longestMs: Math.max(...pages),
  }
}

/** The fewest and the most starts planned in a second, without the last one, which is not whole. */
async function startsPerSecond(redis, keys) {
  const scores = (await redis.zrange(keys.delayed, 0, -1, 'WITHSCORES')).filter((_, index) => index % 2 === 1)
  const starts = scores.map((score) => Math.floor(Number(score) / 4096))
  const seconds = new Map()
  for (const start of starts) {
    const second = Math.floor((start - starts[0]) / 1000)
    seconds.set(second, (seconds.get(second) ?? 0) + 1)
  }
  const whole = [...seconds].filter(([second]) => second < Math.max(...seconds.keys())).map(([, count]) => count)
  return { least: Math.min(...whole), most: Math.max(...whole), seconds: whole.length }
}

/** @returns milliseconds of each call of the reconciling process meanwhile that took Redis a millisecond or longer */
async function longCallsDuring(redis, act) {
  await redis.slowlog('RESET')
  // Not from 0 on: the commands within a script would be logged too, at its cost.
  await redis.config('SET', 'slowlog-log-slower-than', 1000)
  await act()
  const log = await redis.slowlog('GET', -1)
  return log.filter(([, , , , , client]) => client === RECONCILER).map(([, , micros]) => micros / 1000)
}

/** @throws Error when the process that is to make it so has ended */
async function until(child, isSo) {
  while (!(await isSo())) {
    if (child.exitCode !== null) throw new Error(`recovery: the reconciling process ended with code ${child.exitCode}`)
    await sleep(POLL_MS)
  }
}

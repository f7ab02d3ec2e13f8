/** Sessions: how fast many short ones pass, what the launch of one costs, and what many live and silent ones cost. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Queue, QueueEvents } from 'bullmq'
import { Redis } from 'ioredis'
import { childrenOf, cpuMicrosOf, end, rssMbOf, startCommand } from './lib/processes.mjs'
import { median, quantile } from './lib/stats.mjs'
import { configFile } from './lib/watch.mjs'

/** As the product's own enqueue writes them. */
const OPTIONS = { attempts: 8, backoff: { type: 'unstuck' }, removeOnComplete: { age: 86_400, count: 10_000 } }
const POLL_MS = 20
const LIMIT_MS = 120_000
/** Looks at a session are rarest after its first fifteen seconds. */
const SETTLE_MS = 20_000
/** Prints the moment at which it runs, nanoseconds of the wall clock. */
const CLOCK = { command: 'date', args: ['+%s%N'] }

/** @param sizes `batch: {sessions, concurrencies, rounds}`, `launches`, `live: {sessions, windows, windowMs}` */
export async function sessions({ url, batch, launches, live }) {
  const redis = new Redis(url, { maxRetriesPerRequest: null })
  const stage = { url, redis }
  const result = {
    batches: await batches(stage, batch),
    launch: await launchCost(stage, launches),
    live: await liveCost(stage, live),
  }
  redis.disconnect()
  return result
}

/** A supervisor of one queue of sessions, as a user starts it. */
async function startSupervisor({ url, redis }, name, session, concurrency) {
  const config = configFile(name, {
    redis: { url },
    supervisor: { drainMs: 1000 },
    queues: { [name]: { session, concurrency } },
  })
  let started = () => undefined
  const ready = new Promise((resolve) => {
    started = resolve
  })
  const child = startCommand(['supervisor', '--config', config, '--name', name, '--port', '0'], (line) => {
    if (line.event === 'started') started()
    else if (line.level >= 40 && line.event !== 'handed_back') process.stderr.write(`${name}: ${line.msg}\n`)
  })
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`${name}: the supervisor ended`)))
  ended.catch(() => undefined)
  await Promise.race([ready, ended])
  const queue = new Queue(name, { connection: { url, maxRetriesPerRequest: null } })
  return {
    child,
    queue,
    async add(count) {
      const jobs = await queue.addBulk(
        Array.from({ length: count }, (_, n) => ({ name: 'session', data: { n }, opts: OPTIONS })),
      )
      return jobs.map(({ id }) => id)
    },
    /** @throws Error when the supervisor ends, a session fails, or time runs out */
    async until(isSo) {
      const deadline = performance.now() + LIMIT_MS
      while (!(await isSo())) {
        if (child.exitCode !== null || child.signalCode !== null) await ended
        if ((await queue.getFailedCount()) > 0) throw new Error(`${name}: a session failed`)
        if (performance.now() > deadline) throw new Error(`${name}: sessions did not come to it in ${LIMIT_MS / 1000} s`)
        await sleep(POLL_MS)
      }
    },
    /** Of BullMQ's own record of the job. */
    times: async (id) => (await redis.hmget(`bull:${name}:${id}`, 'processedOn', 'finishedOn')).map(Number),
    async stop() {
      await queue.close()
      // Not killed: what is left of its sessions would still be writing when the bench cleans up.
      await end(child, 'SIGTERM')
    },
  }
}

// ---- many short ones

/** Neighbouring rounds, the order rotated; beside each the same commands without anything around them. The first is kept apart. */
async function batches(stage, { sessions: count, concurrencies, rounds }) {
  const peers = []
  for (const concurrency of concurrencies) {
    const supervisor = await startSupervisor(stage, `batch-${concurrency}`, { command: 'true' }, concurrency)
    peers.push({ concurrency, supervisor, seconds: [], bareSeconds: [] })
  }
  for (let round = 0; round <= rounds; round += 1) {
    for (let turn = 0; turn < peers.length; turn += 1) {
      const peer = peers[(round + turn) % peers.length]
      peer.seconds.push(await batchOf(peer.supervisor, count))
      peer.bareSeconds.push(await bareBatch(count, peer.concurrency))
    }
  }
  for (const { supervisor } of peers) await supervisor.stop()
  return peers.map(({ concurrency, seconds: [first, ...seconds], bareSeconds: [, ...bareSeconds] }) => ({
    concurrency,
    sessions: count,
    seconds: median(seconds),
    worstSeconds: Math.max(...seconds),
    firstSeconds: first,
    bareSeconds: median(bareSeconds),
    rounds: seconds,
  }))
}

/** @returns seconds from the claim of the first to the end of the last, by BullMQ's own records of the jobs */
async function batchOf({ queue, add, until, times }, count) {
  await queue.pause()
  const before = await queue.getCompletedCount()
  const ids = await add(count)
  await queue.resume()
  await until(async () => (await queue.getCompletedCount()) - before >= count)
  const all = await Promise.all(ids.map(times))
  return (Math.max(...all.map(([, finished]) => finished)) - Math.min(...all.map(([taken]) => taken))) / 1000
}

async function bareBatch(count, concurrency) {
  const began = performance.now()
  let left = count
  const lane = async () => {
    while (left > 0) {
      left -= 1
      await once(spawn('true', { stdio: 'ignore' }), 'exit')
    }
  }
  await Promise.all(Array.from({ length: concurrency }, lane))
  return (performance.now() - began) / 1000
}

// ---- one launch

/** One session at a time, and after each the same command as a plain child of this process. */
async function launchCost(stage, count) {
  const supervisor = await startSupervisor(stage, 'launches', CLOCK, 4)
  const events = new QueueEvents('launches', { connection: { url: stage.url, maxRetriesPerRequest: null } })
  await events.waitUntilReady()
  const launched = []
  const ended = []
  const bare = []
  for (let turn = 0; turn < count; turn += 1) {
    const job = await supervisor.queue.add('session', {}, OPTIONS)
    await job.waitUntilFinished(events, LIMIT_MS)
    const ran = Number(await stage.redis.hget(`bull:launches:${job.id}`, 'unstuck:output')) / 1e6
    const [taken, finished] = await supervisor.times(job.id)
    launched.push(ran - taken)
    ended.push(finished - ran)
    bare.push(await bareLaunch())
  }
  await events.close()
  await supervisor.stop()
  return { count, launched: percentiles(launched), ended: percentiles(ended), bare: percentiles(bare) }
}

async function bareLaunch() {
  const called = Date.now()
  const child = spawn(CLOCK.command, CLOCK.args, { stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  await once(child, 'close')
  return Number(output) / 1e6 - called
}

const percentiles = (values) => ({ p50: quantile(values, 0.5), p99: quantile(values, 0.99) })

// ---- many live ones

/** Two supervisors with the same settings through the same windows of time: one with the sessions, one without any. */
async function liveCost(stage, { sessions: count, windows, windowMs }) {
  const silent = { command: 'sleep', args: ['600'] }
  const idle = await startSupervisor(stage, 'live-idle', silent, count)
  const busy = await startSupervisor(stage, 'live-busy', silent, count)
  await busy.add(count)
  await busy.until(async () => childrenOf(busy.child.pid).length === count)
  await sleep(SETTLE_MS)
  const looks = []
  for (let window = 0; window < windows; window += 1) {
    const before = cpuOf(idle, busy)
    await sleep(windowMs)
    const after = cpuOf(idle, busy)
    const percentOf = (which) => (after[which] - before[which]) / (after.at - before.at) / 10
    looks.push({ idle: percentOf('idle'), busy: percentOf('busy') })
  }
  const alive = childrenOf(busy.child.pid).length
  if (alive !== count) throw new Error(`live-busy: ${alive} of ${count} sessions live at the end`)
  const result = {
    sessions: count,
    idlePercent: median(looks.map((look) => look.idle)),
    busyPercent: median(looks.map((look) => look.busy)),
    costPercent: median(looks.map((look) => look.busy - look.idle)),
    idleMb: rssMbOf(idle.child.pid),
    busyMb: rssMbOf(busy.child.pid),
    windows: looks,
  }
  await busy.stop()
  await idle.stop()
  return result
}

const cpuOf = (idle, busy) => ({
  at: performance.now(),
  idle: cpuMicrosOf(idle.child.pid),
  busy: cpuMicrosOf(busy.child.pid),
})

/**
 * One way to process no-op jobs, in a process of its own that lives for many rounds. In a round the jobs lie ready in a
 * paused queue; the clocks run from the first fifth to the last job, and stand while the next round is filled.
 *
 * usage (forked): variants.mjs VARIANT REDIS_URL QUEUE IN_FLIGHT [HANDLER [BUILD]]; orders: {jobs, ledger?, watched?} → measures.
 * For the variant `ledger` each round says whether the ledger is asked and told of its jobs, for `watched` and
 * `watched-steps` whether the worker is watched; the latter can find its jobs, too.
 */
import { fileURLToPath } from 'node:url'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { Piscina } from 'piscina'
import { childrenOf, cpuMicrosOf } from './processes.mjs'

const [variant, url, queue, inFlightText, handler = './noop-handler.mjs', build = new URL('../../dist/', import.meta.url)] =
  process.argv.slice(2)
const inFlight = Number(inFlightText)
const connection = { url, maxRetriesPerRequest: null }
const file = (name) => fileURLToPath(new URL(name, import.meta.url))
const threads = 2
const jobsPerThread = inFlight / threads

const starters = {
  raw: () => worker(async () => undefined),
  piscina: () => {
    const pool = new Piscina({
      filename: file(handler),
      minThreads: threads,
      maxThreads: threads,
      concurrentTasksPerWorker: jobsPerThread,
      recordTiming: false,
      idleTimeout: Number.POSITIVE_INFINITY,
    })
    return worker((job) => pool.run({ id: job.id, name: job.name, data: job.data }))
  },
  'sandbox-threads': () => worker(file('./noop-sandbox.cjs'), { useWorkerThreads: true }),
  'sandbox-processes': () => worker(file('./noop-sandbox.cjs')),
  bare: async () => {
    const { bareWorker } = await import('./bare.mjs')
    return bareWorker({ connection, queue, threads, jobsPerThread, handler: file(handler) }).waitUntilReady()
  },
  unstuck: () => supervisor(),
  ledger: async () => {
    await switchLedger()
    await supervisor()
  },
  watched: () => watchedWorker(),
  'watched-steps': async () => {
    await import(new URL('handler.js', build))
    const { findCurrentJobs } = await import(new URL('kernel/current-job.js', build))
    // Once used, AsyncLocalStorage costs every promise until it is told to stop.
    await watchedWorker(() => findCurrentJobs().disable())
  },
}

let switchWatch = async (_on) => undefined

/**
 * A plain worker that a round may have watched, as somebody's program would. Another, which idles, is watched in both kinds
 * of round: else each watch would start the process's sentinel, which a program does once.
 */
async function watchedWorker(onUnwatched = () => undefined) {
  const { watchWorker } = await import(new URL('watch/index.js', build))
  const [made, idle] = [queue, `${queue}-idle`].map(
    (name) => new Worker(name, async () => undefined, { connection, concurrency: inFlight }),
  )
  for (const one of [made, idle]) one.on('error', (error) => console.error(error))
  await Promise.all([made.waitUntilReady(), idle.waitUntilReady()])
  await watchWorker(idle, { redisUrl: url }).ready
  let watch
  switchWatch = async (on) => {
    if (on && !watch) {
      watch = watchWorker(made, { redisUrl: url })
      await watch.ready
    }
    if (!on && watch) {
      await watch.unwatch()
      watch = undefined
      onUnwatched()
    }
  }
}

let ledgerOn = true

/**
 * Of a job that succeeds the ledger is asked whether its group's breaker is open, and told that it worked. With the switch
 * off neither reaches it. The switch stands in both kinds of round, so that the compiled code is the same.
 */
async function switchLedger() {
  const { Breakers } = await import('../../dist/dispatch/breaker.js')
  const { isOpen, worked } = Breakers.prototype
  Breakers.prototype.isOpen = function (group) {
    return ledgerOn && isOpen.call(this, group)
  }
  Breakers.prototype.worked = function (group) {
    if (ledgerOn) worked.call(this, group)
  }
}

function worker(processor, more = {}) {
  const made = new Worker(queue, processor, { connection, concurrency: inFlight, ...more })
  made.on('error', (error) => console.error(error))
  return made.waitUntilReady()
}

async function supervisor() {
  const { Supervisor } = await import(new URL('processes/supervisor.js', build))
  const { parseConfig } = await import(new URL('platform/config-parse.js', build))
  const { createLogger } = await import(new URL('platform/pino-logger.js', build))
  const config = parseConfig(
    {
      redis: { url },
      supervisor: { port: 0 },
      queues: { [queue]: { handler: file(handler), threads, jobsPerThread } },
    },
    { baseDir: process.cwd() },
  )
  const log = createLogger({ level: 'warn', format: 'json', role: 'bench' })
  await new Supervisor({ config, log, onReplaced: () => process.exit(1), onDrainOrder: () => undefined }).start()
}

/** This process and, for sandboxed processes, its children: those in steps of a kernel tick. */
function cpuMicros() {
  const { user, system } = process.cpuUsage()
  const children = variant === 'sandbox-processes' ? childrenOf(process.pid) : []
  return children.reduce((sum, pid) => sum + cpuMicrosOf(pid), user + system)
}

const POLL_MS = 10

async function round({ jobs, ledger = true, watched = false }) {
  ledgerOn = ledger
  await switchWatch(watched)
  await jobQueue.resume()
  let first
  for (;;) {
    const [[, waiting], [, active]] = await client.pipeline().llen(`bull:${queue}:wait`).llen(`bull:${queue}:active`).exec()
    const now = performance.now()
    const done = jobs - waiting - active
    if (done >= jobs / 5) first ??= { done, now, cpu: cpuMicros() }
    if (done >= jobs) {
      const counted = jobs - first.done
      return { jobsPerSecond: (counted / (now - first.now)) * 1000, cpuMicros: (cpuMicros() - first.cpu) / counted }
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

const client = new Redis(url)
const jobQueue = new Queue(queue, { connection })
await starters[variant]()
process.on('message', (order) => round(order).then((result) => process.send(result)))
process.on('disconnect', () => process.exit())
process.send('ready')

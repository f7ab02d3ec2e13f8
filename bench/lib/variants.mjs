/**
 * One measured run of one way to process no-op jobs, in a process of its own: the jobs lie ready, the clock runs from
 * the first fifth (warm by then) to the last completed. Prints one line of JSON.
 *
 * usage: node variants.mjs VARIANT REDIS_URL QUEUE JOBS IN_FLIGHT
 */
import { fileURLToPath } from 'node:url'
import { Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { Piscina } from 'piscina'

const [variant, url, queue, jobsText, inFlightText] = process.argv.slice(2)
const jobs = Number(jobsText)
const inFlight = Number(inFlightText)
const connection = { url, maxRetriesPerRequest: null }
const file = (name) => fileURLToPath(new URL(name, import.meta.url))

const starters = {
  raw: () => worker(async () => undefined),
  piscina: () => {
    const pool = new Piscina({
      filename: file('./noop-piscina.mjs'),
      ...poolSize(),
      recordTiming: false,
      idleTimeout: Infinity,
    })
    return worker((job) =>
      pool.run({
        id: job.id,
        name: job.name,
        queue,
        data: job.data,
        attempt: job.attemptsMade + 1,
        fence: job.attemptsStarted,
      }),
    )
  },
  'sandbox-threads': () => worker(file('./noop-sandbox.cjs'), { useWorkerThreads: true }),
  'sandbox-processes': () => worker(file('./noop-sandbox.cjs')),
  unstuck: () => supervisor(),
}

function poolSize() {
  return inFlight > 2
    ? { minThreads: 2, maxThreads: 2, concurrentTasksPerWorker: inFlight / 2 }
    : { minThreads: inFlight, maxThreads: inFlight, concurrentTasksPerWorker: 1 }
}

function worker(processor, more = {}) {
  const made = new Worker(queue, processor, { connection, concurrency: inFlight, autorun: false, ...more })
  made.on('error', (error) => console.error(error))
  return { start: () => void made.run(), stop: () => made.close() }
}

async function supervisor() {
  const { Supervisor } = await import('../../dist/processes/supervisor.js')
  const { parseConfig } = await import('../../dist/platform/config-parse.js')
  const { createLogger } = await import('../../dist/platform/pino-logger.js')
  const { minThreads, concurrentTasksPerWorker } = poolSize()
  const config = parseConfig(
    {
      redis: { url },
      supervisor: { port: 0 },
      queues: {
        [queue]: { handler: file('./noop-handler.mjs'), threads: minThreads, jobsPerThread: concurrentTasksPerWorker },
      },
    },
    { baseDir: process.cwd() },
  )
  const made = new Supervisor({
    config,
    log: createLogger({ level: 'warn', format: 'json', role: 'bench' }),
    onReplaced: () => process.exit(1),
  })
  return { start: () => made.start(), stop: () => made.stop() }
}

/** Polls the count of completed jobs on a connection of its own, in another process's time: one small call each 20 ms. */
async function allCompleted() {
  const client = new Redis(url)
  const key = `bull:${queue}:completed`
  let first
  for (;;) {
    const done = await client.zcard(key)
    const now = performance.now()
    if (done >= jobs / 5) first ??= { done, now, cpu: process.cpuUsage() }
    if (done >= jobs) {
      const cpu = process.cpuUsage(first.cpu)
      client.disconnect()
      const counted = jobs - first.done
      return {
        jobsPerSecond: (counted / (now - first.now)) * 1000,
        cpuMicros: (cpu.user + cpu.system) / counted,
        rssMb: process.memoryUsage.rss() / 2 ** 20,
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const run = await starters[variant]()
const finished = allCompleted()
await run.start()
const result = await finished
console.log(JSON.stringify({ variant, inFlight, ...result }))
await run.stop()
process.exit(0)

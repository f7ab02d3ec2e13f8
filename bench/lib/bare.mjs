/**
 * The product's dispatch path with all supervision taken out: BullMQ worker → piscina → thread → the same envelope, the
 * same decision. No board, no sentinel, no witness of BullMQ's calls, no books of running attempts, no metrics.
 */
import { fileURLToPath } from 'node:url'
import { DelayedError, UnrecoverableError, Worker } from 'bullmq'
import { Piscina } from 'piscina'
import { revive } from '../../dist/dispatch/outcome.js'
import { backoffMs, decide } from '../../dist/dispatch/retry-policy.js'

const attempts = { max: 8, backoffMs: [30_000, 60_000, 120_000, 300_000, 600_000], jitter: 0.2 }

export function bareWorker({ connection, queue, threads, jobsPerThread, handler }) {
  const pool = new Piscina({
    filename: fileURLToPath(new URL('./bare-thread.mjs', import.meta.url)),
    minThreads: threads,
    maxThreads: threads,
    concurrentTasksPerWorker: jobsPerThread,
    idleTimeout: Number.POSITIVE_INFINITY,
    recordTiming: false,
    workerData: { handler },
  })
  const worker = new Worker(queue, (job) => processJob(pool, queue, job), {
    connection,
    name: 'bare#0',
    concurrency: threads * jobsPerThread,
    lockDuration: 30_000,
    drainDelay: 5,
    runRetryDelay: 1000,
    skipStalledCheck: true,
    settings: { backoffStrategy: (made) => backoffMs(made, attempts, Math.random()) },
  })
  worker.on('error', (error) => console.error(error))
  return worker
}

async function processJob(pool, queue, job) {
  job.opts.attempts ||= attempts.max
  job.opts.backoff ||= { type: 'unstuck' }
  const reply = await pool.run({
    id: String(job.id),
    name: job.name,
    queue,
    data: job.data,
    group: job.opts.unstuck?.group,
    attempt: job.attemptsMade + 1,
    fence: job.attemptsStarted,
  })
  const decision = decide(outcomeOf(reply))
  switch (decision.verb) {
    case 'complete':
      return decision.result
    case 'retry':
      throw decision.error
    case 'fail':
      throw Object.assign(new UnrecoverableError(decision.error.message), { stack: decision.error.stack })
    default:
      throw new DelayedError()
  }
}

function outcomeOf(reply) {
  if (reply.ok) return { kind: 'success', result: reply.json === undefined ? undefined : JSON.parse(reply.json) }
  return { kind: reply.error.permanent ? 'permanent' : 'transient', error: revive(reply.error) }
}

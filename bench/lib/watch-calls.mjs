/**
 * What `watchWorker` puts around a job, by itself: the calls of a worker that does nothing else, so that no Redis, no socket
 * and no parser is measured with it. One process, the same calls with and without, again and again.
 *
 * usage (forked): watch-calls.mjs REDIS_URL STEPS; orders: {jobs} → microseconds of CPU a job, {without, with}.
 */
import { EventEmitter } from 'node:events'

const [url, steps] = process.argv.slice(2)
const IN_FLIGHT = 100

class Store {
  async moveToFinished() {
    await undefined
  }
}

/** What BullMQ's Worker has that is looked at. */
class IdleWorker extends EventEmitter {
  opts = { connection: { url } }
  concurrency = IN_FLIGHT
  running = true
  backend = new Store()

  constructor(name) {
    super()
    this.name = name
  }
  async callProcessJob() {
    await undefined
  }
  waitForJob() {}
  getBlockTimeout() {
    return 1
  }
  close() {}
}

const { watchWorker } = await import('../../dist/watch/index.js')
if (steps === 'steps') await import('../../dist/handler.js')
// The process beats all the time, as a program's does.
await watchWorker(new IdleWorker('idle'), { redisUrl: url }).ready
const worker = new IdleWorker('calls')

async function cpuMicrosOf(jobs) {
  let next = 0
  const one = async () => {
    while (next < jobs) {
      next += 1
      await worker.callProcessJob({ id: String(next), name: 'job', data: {}, attemptsMade: 0, attemptsStarted: 1 }, 'token')
      await worker.backend.moveToFinished()
    }
  }
  const before = process.cpuUsage()
  await Promise.all(Array.from({ length: IN_FLIGHT }, one))
  const { user, system } = process.cpuUsage(before)
  return (user + system) / jobs
}

async function watchedMicrosOf(jobs) {
  const watch = watchWorker(worker, { redisUrl: url })
  await watch.ready
  const micros = await cpuMicrosOf(jobs)
  await watch.unwatch()
  return micros
}

process.on('message', async ({ jobs }) => {
  process.send({ without: await cpuMicrosOf(jobs), with: await watchedMicrosOf(jobs) })
})
process.on('disconnect', () => process.exit())
process.send('ready')

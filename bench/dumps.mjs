/** Stack dumps: how soon one can be read that is asked for, and what it costs that they can be asked for. */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { readBeats } from '../dist/heartbeat/redis-heartbeats.js'
import { fleetKeys } from '../dist/platform/redis-keys.js'
import { askForDump } from '../dist/stackdump/redis-dump-requests.js'
import { awaitAnswer } from '../dist/stackdump/redis-dumps.js'
import { buildsWithAndWithoutDumps } from './lib/builds.mjs'
import { end, scratch, startCommand } from './lib/processes.mjs'
import { quantile } from './lib/stats.mjs'
import { configFile } from './lib/watch.mjs'
import { buildCost } from './throughput.mjs'

const HANDLER = fileURLToPath(new URL('./lib/wedged-handler.mjs', import.meta.url))
const QUEUE = 'dumped'
const keys = fleetKeys('{unstuck}')
const ANSWER_LIMIT_MS = 10_000
/** Requests come at any moment between two beats, milliseconds. */
const PAUSE_MS = 60
const CLASSES = ['running', 'awaiting', 'parked', 'native']

/** @param sizes `threads`: sizes of the pool, `requests` of each class, `cost: {inFlight, processes, rounds, jobs}` */
export async function dumps({ url, threads, requests, cost }) {
  const latencies = []
  for (const size of threads) {
    for (const expected of CLASSES) latencies.push(await latencyOf({ url, size, expected, requests }))
  }
  return { latencies, ...(await buildCost({ url, builds: buildsWithAndWithoutDumps(), ...cost })) }
}

/** A supervisor one of whose threads does, or does not, what is to be seen; the others are idle. */
async function latencyOf({ url, size, expected, requests }) {
  const redis = new Redis(url, { maxRetriesPerRequest: null })
  const name = `${expected}-${size}`
  const child = await startSupervisor(url, name, size)
  const target = await wedgeOne({ url, redis, name, expected })
  const samples = []
  const others = {}
  await ask(redis, target)
  for (let count = 0; count < requests; count += 1) {
    await sleep(Math.random() * PAUSE_MS)
    const { ms, seen } = await ask(redis, target)
    samples.push(ms)
    if (seen !== expected) others[seen] = (others[seen] ?? 0) + 1
  }
  await end(child)
  redis.disconnect()
  return { expected, size, samples, others, p50: quantile(samples, 0.5), p99: quantile(samples, 0.99) }
}

async function startSupervisor(url, name, threads) {
  const silentAfterMs = 3_600_000
  const config = configFile(name, { redis: { url }, queues: { [QUEUE]: { handler: HANDLER, threads, silentAfterMs } } })
  let started = () => undefined
  const ready = new Promise((resolve) => {
    started = resolve
  })
  const child = startCommand(['supervisor', '--config', config, '--name', name, '--port', '0'], (line) => {
    if (line.event === 'started') started()
    else if (line.level >= 40) process.stderr.write(`${name}: ${line.msg}\n`)
  })
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`${name}: the supervisor ended`)))
  ended.catch(() => undefined)
  await Promise.race([ready, ended])
  return child
}

async function wedgeOne({ url, redis, name, expected }) {
  const queue = new Queue(QUEUE, { connection: { url, maxRetriesPerRequest: null } })
  const fifo = join(scratch, `fifo-${name}`)
  execFileSync('mkfifo', [fifo])
  // What the supervisor before was killed over must not run here.
  await queue.obliterate({ force: true })
  if (expected !== 'parked') await queue.add(expected, { kind: expected, fifo })
  await queue.close()
  for (;;) {
    const [{ incarnation, beat }] = await readBeats(redis, keys, [name])
    const thread = expected === 'parked' ? beat?.threads[0]?.number : beat?.jobs[0]?.thread
    if (thread) return { supervisor: name, incarnation, target: { queue: QUEUE, thread } }
    await sleep(20)
  }
}

/** As the command line and the library ask, and wait for the answer. */
async function ask(redis, { supervisor, incarnation, target }) {
  const request = randomUUID()
  const began = performance.now()
  await askForDump(redis, keys, { supervisor, incarnation }, { kind: 'dump', request, targets: [target] })
  const answer = await awaitAnswer(redis, keys, request, ANSWER_LIMIT_MS)
  const ms = performance.now() - began
  const [dump] = answer?.dumps ?? []
  if (!dump) throw new Error(`${supervisor}: no dump (${answer?.refused ?? 'no answer'})`)
  return { ms, seen: dump.class }
}

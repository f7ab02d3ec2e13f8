/**
 * A simulated supervisor in which exactly one thing stops at a known moment. Its beats are made by the product's own
 * sentinel and judged by the product's own rule; only the board behind them is made up.
 */
import { randomBytes } from 'node:crypto'
import { subjectOf } from '../../dist/heartbeat/beat.js'
import { redisBeatWriter } from '../../dist/heartbeat/redis-heartbeats.js'
import { Sentinel } from '../../dist/heartbeat/sentinel.js'
import { healthyBeat } from './beats.mjs'

/** Every threshold of a patient, milliseconds. */
export const THRESHOLD_MS = 1000
export const PATIENTS_QUEUE = 'patients'
const DEAD_AFTER_MS = 2000
const INTERVAL_MS = 500
const CALL_TIMEOUT_MS = 2000

/** By cause: the subject, the threshold, and how the beat looks `ageMs` after the thing stopped. */
export const ailments = {
  process_dead: { subject: subjectOf.process, thresholdMs: DEAD_AFTER_MS, silent: true },
  loop_blocked: {
    subject: subjectOf.eventLoop,
    apply: (beat, ageMs) => ({ ...beat, main: { ageMs, thresholdMs: THRESHOLD_MS } }),
  },
  poll_stale: {
    subject: (name) => subjectOf.loop(name, 'fetch', PATIENTS_QUEUE),
    apply: (beat, ageMs) => withFetch(beat, { inFlight: true, phase: 'moveToActive', ageMs, thresholdMs: THRESHOLD_MS }),
  },
  never_polled: {
    subject: (name) => subjectOf.loop(name, 'fetch', PATIENTS_QUEUE),
    apply: (beat, ageMs) => withFetch(beat, { state: 'polling', cycles: 0, ageMs, graceMs: THRESHOLD_MS }),
  },
  lock_late: {
    subject: (name) => subjectOf.loop(name, 'fetch', PATIENTS_QUEUE),
    apply: (beat, ageMs) => withFetch(beat, { lockAgeMs: ageMs, lockDurationMs: THRESHOLD_MS }),
  },
  thread_blocked: {
    subject: (name) => subjectOf.thread(name, PATIENTS_QUEUE, 1),
    apply: (beat, ageMs) => ({
      ...beat,
      threadBlockedMs: THRESHOLD_MS,
      threads: beat.threads.map((thread) => (thread.number === 1 ? { ...thread, tickAgeMs: ageMs } : thread)),
    }),
  },
  job_silent: {
    subject: (name) => subjectOf.job(PATIENTS_QUEUE, name),
    apply: (beat, ageMs) => ({
      ...beat,
      jobs: beat.jobs.map((job) => (job.thread === 1 ? { ...job, id: beat.supervisor, silentMs: ageMs } : job)),
      queues: beat.queues.map((queue) => ({ ...queue, silentAfterMs: THRESHOLD_MS })),
    }),
  },
}

function withFetch(beat, changes) {
  return { ...beat, loops: beat.loops.map((loop) => (loop.loop === 'fetch' ? { ...loop, ...changes } : loop)) }
}

export async function admit({ redis, prefix, cause, number }) {
  const name = `${cause}-${number}`
  const incarnation = randomBytes(6).toString('hex')
  const ailment = ailments[cause]
  const timeoutMs = ailment.silent ? DEAD_AFTER_MS : 5000
  const options = { prefix, supervisor: name, incarnation, host: 'bench', pid: 1, timeoutMs, queues: [PATIENTS_QUEUE] }
  const writer = redisBeatWriter(redis, options)
  const bornAt = performance.now()
  let stoppedAt = Number.POSITIVE_INFINITY
  let silenced = false
  const accepted = { at: 0, whenNext: () => undefined }
  const sentinel = new Sentinel(
    {
      sample(seq, now) {
        const uptimeMs = Math.round(now - bornAt)
        const beat = healthyBeat({ supervisor: name, incarnation, seq, uptimeMs, queue: PATIENTS_QUEUE })
        const healthy = { ...beat, intervalMs: INTERVAL_MS, timeoutMs }
        return ailment.silent ? healthy : ailment.apply(healthy, Math.max(0, Math.floor(now - stoppedAt)) || 0)
      },
      sink: {
        register: () => writer.register(),
        async beat(...args) {
          if (silenced) return new Promise(() => undefined)
          const taken = await writer.beat(...args)
          accepted.at = performance.now()
          accepted.whenNext()
          return taken
        },
        goodbye: () => writer.goodbye(),
      },
      reconnect: () => undefined,
      post: () => undefined,
      monotonicMs: () => performance.now(),
      timer(run, ms) {
        const timer = setTimeout(run, ms)
        return () => clearTimeout(timer)
      },
    },
    { incarnation, intervalMs: INTERVAL_MS, callTimeoutMs: CALL_TIMEOUT_MS },
  )
  await sentinel.start()
  await new Promise((resolve) => {
    accepted.whenNext = resolve
  })
  return {
    subject: ailment.subject(name),
    thresholdMs: ailment.thresholdMs ?? THRESHOLD_MS,
    /** @returns the moment of the cause, by performance.now */
    fallIll() {
      stoppedAt = performance.now()
      silenced = ailment.silent === true
      // Silence begins with the last beat that the store took.
      return silenced ? accepted.at : stoppedAt
    },
    async discharge() {
      silenced = false
      stoppedAt = Number.POSITIVE_INFINITY
      if (ailment.silent) await writer.register()
      await writer.goodbye()
      await sentinel.stop()
    },
  }
}

/**
 * BullMQ's own backend with a witness: every call of the fetch loop is stamped on the board, an expired lock is taken
 * again while the job is still ours, and a job leaves our books only when Redis has its end.
 *
 * The methods are shadowed on the instance that BullMQ's public factory makes; nothing of BullMQ is replaced.
 */
import { getDefaultBackendFactory, isNotConnectionError, type Job, type RedisQueueBackend } from 'bullmq'
import type { Redis } from 'ioredis'
import type { BeatBoard } from '../heartbeat/beat-board.js'
import type { QueueKeys } from '../platform/redis-keys.js'
import { RETAKE_LOCK } from './bullmq-scripts.js'
import type { FetchProgress } from './fetch-progress.js'
import type { Attempts } from './run-attempt.js'

export interface WitnessOptions {
  readonly board: BeatBoard
  readonly progress: FetchProgress
  readonly attempts: Attempts
  readonly keys: QueueKeys
  readonly lockDurationMs: number
  /** A fetch that took longer may have been taken back meanwhile: its job is verified before it runs. */
  readonly lateAfterMs: number
  /** Jobs whose claim must be verified before they run. */
  readonly lateClaims: Set<string>
  /** The lock is lost for good: another claim has the job. */
  readonly onLockLost: (jobId: string) => void
  /** BullMQ is about to fail a job by itself, before any attempt. @returns whether the job must be kept, whatever its options say */
  readonly onDeferredFailure: (job: Job, token: string) => Promise<boolean>
}

type BackendFactory = ReturnType<typeof getDefaultBackendFactory<RedisQueueBackend>>

/** @returns what BullMQ's Worker takes as its backend factory */
export function witnessedBackendFactory(witness: WitnessOptions): BackendFactory {
  return (name, opts, kind) => {
    const backend = getDefaultBackendFactory<RedisQueueBackend>()(name, opts, kind)
    witnessFetch(backend, witness)
    witnessEnd(backend, witness)
    witnessDeferred(backend, witness)
    witnessLocks(backend, witness)
    return backend
  }
}

/** BullMQ's reply: job data, job id, rate limit delay, time of the next delayed job. */
type NextJob = [unknown, string, number, number] | undefined | unknown[]

/** Sees what came back: a rate limit, and a job that took suspiciously long to come. */
function seeNext(witness: WitnessOptions, next: NextJob | undefined, tookMs: number): void {
  if (!Array.isArray(next)) return
  const [, id, limitMs] = next
  if (typeof limitMs === 'number' && limitMs > 0) witness.progress.limitedFor(limitMs)
  if (tookMs > witness.lateAfterMs && typeof id === 'string' && id !== '') witness.lateClaims.add(id)
}

function witnessFetch(backend: RedisQueueBackend, witness: WitnessOptions): void {
  const { progress, board } = witness
  const waitForJob = backend.waitForJob.bind(backend)
  backend.waitForJob = (seconds) => progress.watch('waitForJob', seconds * 1000, () => waitForJob(seconds))

  const moveToActive = backend.moveToActive.bind(backend)
  backend.moveToActive = async (token, name) => {
    const since = board.stamp()
    const next = await progress.watch('moveToActive', 0, () => moveToActive(token, name))
    seeNext(witness, next, (board.stamp() - since) | 0)
    return next
  }
}

function witnessEnd(backend: RedisQueueBackend, witness: WitnessOptions): void {
  const moveToFinished = backend.moveToFinished.bind(backend)
  backend.moveToFinished = (jobId, args) =>
    end(backend, witness, 'moveToFinished', jobId, [], () => moveToFinished(jobId, args))

  const moveToDelayed = backend.moveToDelayed.bind(backend)
  backend.moveToDelayed = (jobId, timestamp, delay, token, opts) =>
    end(backend, witness, 'moveToDelayed', jobId, [], () => moveToDelayed(jobId, timestamp, delay, token, opts), token)

  const retryJob = backend.retryJob.bind(backend)
  backend.retryJob = (jobId, lifo, token, opts) =>
    end(backend, witness, 'retryJob', jobId, undefined, () => retryJob(jobId, lifo, token, opts), token)
}

function witnessDeferred(backend: RedisQueueBackend, witness: WitnessOptions): void {
  const moveToFailed = backend.moveToFailed.bind(backend)
  backend.moveToFailed = async (job, reason, removeOnFail, token, fetchNext, fields) => {
    const own = job as unknown as Job
    const keep = own.deferredFailure ? await witness.onDeferredFailure(own, token) : false
    return moveToFailed(job, reason, keep ? false : removeOnFail, token, fetchNext, fields)
  }
}

/** BullMQ's code for a lock that is not there. */
const LOCK_MISSING = -2

async function end<T>(
  backend: RedisQueueBackend,
  witness: WitnessOptions,
  phase: 'moveToFinished' | 'moveToDelayed' | 'retryJob',
  jobId: string,
  /** The reply when the job turns out to be finished already. */
  finished: T,
  call: () => Promise<T>,
  token?: string,
): Promise<T> {
  const { board, progress, attempts } = witness
  const out = progress.begin(phase, 0)
  let ended: T
  try {
    ended = await call()
  } catch (error) {
    ended = await endAnyway(backend, witness, jobId, finished, call, token, error)
  } finally {
    progress.end(out)
  }
  attempts.settled(jobId, token)
  seeNext(witness, Array.isArray(ended) ? ended : undefined, (board.stamp() - out.since) | 0)
  return ended
}

/** The end was refused. For want of a lock that is still ours to have, it is tried again. */
async function endAnyway<T>(
  backend: RedisQueueBackend,
  witness: WitnessOptions,
  jobId: string,
  finished: T,
  call: () => Promise<T>,
  token: string | undefined,
  error: unknown,
): Promise<T> {
  if (codeOf(error) !== LOCK_MISSING) {
    // A lost connection BullMQ waits out and tries again; after anything else it lets go of the job.
    if (!isConnectionError(error)) witness.attempts.settled(jobId, token)
    throw error
  }
  const retaken = await retakeLock(backend, witness, jobId)
  if (retaken === 'taken') return call()
  witness.attempts.settled(jobId, token)
  if (retaken === 'finished') return finished
  throw error
}

function isConnectionError(error: unknown): boolean {
  return error instanceof Error && !isNotConnectionError(error)
}

function codeOf(error: unknown): number | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' ? error.code : undefined
}

async function retakeLock(
  backend: RedisQueueBackend,
  witness: WitnessOptions,
  jobId: string,
): Promise<'taken' | 'finished' | 'lost'> {
  const attempt = witness.attempts.get(jobId)
  if (!attempt) return 'lost'
  const { keys, lockDurationMs } = witness
  const reply = await RETAKE_LOCK.run(
    await redisOf(backend),
    [keys.lock(jobId), keys.active, keys.job(jobId), keys.stalled],
    [jobId, attempt.job.token, lockDurationMs, attempt.job.fence],
  )
  return reply === 1 ? 'taken' : reply === 2 ? 'finished' : 'lost'
}

/** BullMQ wraps ioredis in a thin adapter that passes every command on; this is the one place that relies on it. */
export async function redisOf(backend: RedisQueueBackend): Promise<Redis> {
  return (await backend.client) as unknown as Redis
}

function witnessLocks(backend: RedisQueueBackend, witness: WitnessOptions): void {
  const { board, attempts } = witness
  const extendLocks = backend.extendLocks.bind(backend)
  backend.extendLocks = async (jobIds, tokens, durationMs) => {
    const since = board.stamp()
    const lost = new Set<string>()
    for (const jobId of await extendLocks(jobIds, tokens, durationMs)) {
      if ((await retakeLock(backend, witness, jobId)) === 'lost') lost.add(jobId)
    }
    for (const jobId of jobIds) {
      const attempt = attempts.get(jobId)
      if (attempt && !lost.has(jobId)) board.jobLocked(attempt.ref, since)
    }
    for (const jobId of lost) witness.onLockLost(jobId)
    return [...lost]
  }
}

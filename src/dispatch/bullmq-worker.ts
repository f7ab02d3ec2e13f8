/**
 * One queue's BullMQ worker: takes jobs, runs attempts, and turns decisions into BullMQ's verbs. The only file that
 * does. BullMQ's stalled check is off: an expired lock says only that a renewal was late; orphans are the reconcile
 * loop's business, which knows who owned them.
 */
import { DelayedError, type Job, RateLimitError, type RedisQueueBackend, UnrecoverableError, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import type { BeatBoard, LoopWriter } from '../heartbeat/beat-board.js'
import type { Clock } from '../kernel/clock.js'
import { Service } from '../kernel/service.js'
import type { QueueConfig } from '../platform/config.js'
import { connectRedis } from '../platform/redis.js'
import { queueKeys } from '../platform/redis-keys.js'
import { redisOf, witnessedBackendFactory } from './bullmq-backend.js'
import { FetchProgress } from './fetch-progress.js'
import type { Outcome } from './outcome.js'
import { backoffMs, type Decision, decide, HAND_BACK_DELAY_MS } from './retry-policy.js'
import { Attempts, type ClaimedJob, type Executor, LATE_CLAIM_MS } from './run-attempt.js'

export interface QueueWorkerOptions {
  readonly queue: string
  readonly queueIndex: number
  readonly config: QueueConfig
  /** Written into each job as its owner: `supervisor#incarnation`. */
  readonly owner: string
  readonly bullPrefix: string
  readonly redisUrl: string
  /** Longest block of an idle fetch, milliseconds. */
  readonly pollIntervalMs: number
  readonly heartbeatTimeoutMs: number
  readonly board: BeatBoard
  readonly loop: LoopWriter
  readonly executor: Executor
  readonly clock: Clock
  readonly events: QueueWorkerEvents
}

export interface QueueWorkerEvents {
  attemptEnded(queue: string, outcome: Outcome['kind'], runMs: number): void
  /** A job started for the first time. @param waitMs since it might have */
  firstStart(queue: string, waitMs: number): void
  error(queue: string, error: Error): void
}

/** The name of our backoff in a job's options. */
export const BACKOFF_TYPE = 'unstuck'

/** After a lost connection BullMQ rests so long before it fetches again; its default of 15 s is a wedge of its own. */
const RETRY_AFTER_ERROR_MS = 1000

/** BullMQ's close waits for the cycle in flight without a limit; ours does not. */
const CLOSE_TIMEOUT_MS = 3000

export class QueueWorker extends Service {
  readonly attempts: Attempts
  readonly #options: QueueWorkerOptions
  readonly #lateClaims = new Set<string>()
  readonly #progress: FetchProgress
  #redis: Redis | undefined
  #worker: Worker | undefined
  #draining = false

  constructor(options: QueueWorkerOptions) {
    super()
    this.#options = options
    const { queue, queueIndex, board, executor, loop } = options
    this.#progress = new FetchProgress(board, loop)
    this.attempts = new Attempts({ queue, queueIndex, board, executor })
  }

  protected override async onStart(): Promise<void> {
    const { queue, config, owner, bullPrefix, redisUrl, pollIntervalMs, loop } = this.#options
    const slots = config.threads * config.jobsPerThread
    loop.state('polling')
    // Ours: from options BullMQ would make one of whatever ioredis stands beside it, which in a consumer's folder may be an
    // older one (ioredis 5 left a timer behind that held up the end of the process).
    this.#redis = connectRedis(redisUrl, 'blocking')
    this.#worker = new Worker(
      queue,
      (job, token) => this.#process(job, token ?? ''),
      {
        connection: this.#redis,
        prefix: bullPrefix,
        name: owner,
        concurrency: slots,
        lockDuration: config.lockDurationMs,
        drainDelay: pollIntervalMs / 1000,
        runRetryDelay: RETRY_AFTER_ERROR_MS,
        skipStalledCheck: true,
        settings: { backoffStrategy: (made) => backoffMs(made, config.attempts, Math.random()) },
      },
      this.#backendFactory(),
    )
    this.#worker.on('error', (error) => this.#options.events.error(queue, error))
    await this.#worker.waitUntilReady()
  }

  #backendFactory() {
    const { board, bullPrefix, queue, config, heartbeatTimeoutMs } = this.#options
    return witnessedBackendFactory({
      board,
      progress: this.#progress,
      attempts: this.attempts,
      keys: queueKeys(bullPrefix, queue),
      lockDurationMs: config.lockDurationMs,
      // A reaper takes back what a silent owner claimed up to a beat before it fell silent.
      lateAfterMs: Math.min(LATE_CLAIM_MS, heartbeatTimeoutMs / 4),
      lateClaims: this.#lateClaims,
      onLockLost: (jobId) => this.#abort(jobId),
    })
  }

  #abort(jobId: string): void {
    const attempt = this.attempts.get(jobId)
    if (attempt) this.#options.board.abortJob(attempt.ref, 'lost its lock')
  }

  async #process(job: Job, token: string): Promise<unknown> {
    const claimed = this.#claim(job, token)
    if (this.#lateClaims.delete(claimed.id) && !(await this.#isOurs(claimed))) throw new DelayedError()
    if (this.attempts.get(claimed.id)) return this.#refuseTwin(job, token)

    const { queue, clock, events } = this.#options
    const since = clock.monotonicMs()
    // Later starts would count the attempts and backoffs before them as waiting.
    if (job.attemptsStarted === 1)
      events.firstStart(queue, Math.max(0, (job.processedOn ?? job.timestamp) - job.timestamp - job.delay))
    const outcome = await this.attempts.run(claimed)
    events.attemptEnded(queue, outcome.kind, clock.monotonicMs() - since)
    const decision = decide(outcome)
    return decision.verb === 'complete' ? decision.result : this.#apply(job, token, decision)
  }

  /** A job that plain BullMQ code added without attempts or backoff gets the queue's policy all the same. */
  #claim(job: Job, token: string): ClaimedJob {
    job.opts.attempts ||= this.#options.config.attempts.max
    job.opts.backoff ||= { type: BACKOFF_TYPE }
    return {
      id: String(job.id),
      name: job.name,
      data: job.data,
      group: groupOf(job),
      attempt: job.attemptsMade + 1,
      fence: job.attemptsStarted,
      token,
    }
  }

  /** The claim's reply was so late that a reaper may have taken the job back meanwhile. */
  async #isOurs(job: ClaimedJob): Promise<boolean> {
    const worker = this.#worker
    if (!worker) return false
    const redis = await redisOf(backendOf(worker))
    const holder = await redis.get(queueKeys(this.#options.bullPrefix, this.#options.queue).lock(job.id))
    return holder === job.token
  }

  /**
   * The job still runs here under an older claim that somebody took back. The older run is fenced off and told so; the
   * new claim waits until it is gone, so that the job never runs twice at once.
   */
  async #refuseTwin(job: Job, token: string): Promise<never> {
    this.#abort(String(job.id))
    await handBack(job, token)
    throw new DelayedError()
  }

  async #apply(job: Job, token: string, decision: Exclude<Decision, { verb: 'complete' }>): Promise<never> {
    switch (decision.verb) {
      case 'retry':
        throw asHandlersError(decision.error)
      case 'fail':
        throw Object.assign(new UnrecoverableError(decision.error.message), { stack: decision.error.stack })
      case 'hand_back':
        await handBack(job, token)
        throw new DelayedError()
    }
  }

  /** Takes no more jobs. What runs goes on. */
  drain(): void {
    if (this.#draining) return
    this.#draining = true
    this.#progress.drain()
    void this.#worker?.pause(true)
  }

  /** Tells every running handler, through its signal, that the supervisor is about to end. */
  abortAll(): void {
    for (const attempt of this.attempts.list()) this.#options.board.abortJob(attempt.ref, 'the supervisor is shutting down')
  }

  /** Hands every running job back, uncharged. */
  handBackAll(): void {
    for (const attempt of this.attempts.list()) attempt.handBack('shutdown')
  }

  protected override async onStop(): Promise<void> {
    this.drain()
    const worker = this.#worker
    if (!worker) return
    const closed = worker.close().then(() => true)
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), CLOSE_TIMEOUT_MS)
    })
    const clean = await Promise.race([closed, limit])
    clearTimeout(timer)
    if (!clean) await backendOf(worker).disconnect()
    // What BullMQ was given it leaves open.
    this.#redis?.disconnect()
    this.#options.loop.state('stopped')
  }
}

function backendOf(worker: Worker): RedisQueueBackend {
  return (worker as unknown as { backend: RedisQueueBackend }).backend
}

function handBack(job: Job, token: string): Promise<void> {
  return job.moveToDelayed(Date.now() + HAND_BACK_DELAY_MS, token)
}

/** Thrown by a processor these are commands to BullMQ, after which it leaves the job where it is: active, for ever. */
const BULLMQ_COMMANDS = ['DelayedError', 'WaitingError', 'WaitingChildrenError']

/** What a handler threw is a failure of its job, whatever it calls itself. */
function asHandlersError(error: Error): Error {
  if (BULLMQ_COMMANDS.includes(error.name)) error.name = 'Error'
  if (error.message === new RateLimitError().message) error.message = `the handler threw ${error.message}`
  return error
}

/** The group that `Dispatcher.add` wrote into the job's options. */
function groupOf(job: Job): string | undefined {
  const own: unknown = (job.opts as { unstuck?: { group?: unknown } }).unstuck?.group
  return typeof own === 'string' ? own : undefined
}

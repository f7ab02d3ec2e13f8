/**
 * One queue's BullMQ worker: takes jobs, runs attempts, and turns decisions into BullMQ's verbs. The only file that
 * does. BullMQ's stalled check is off: an expired lock says only that a renewal was late; orphans are the reconcile
 * loop's business, which knows who owned them.
 */
import { DelayedError, Job, type RedisQueueBackend, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import type { BeatBoard, LoopWriter } from '../heartbeat/beat-board.js'
import type { Clock } from '../kernel/clock.js'
import { Service } from '../kernel/service.js'
import { TIMED_OUT, within } from '../kernel/within.js'
import { type QueueConfig, slotsOf } from '../platform/config.js'
import { NO_TRACING, type Tracing } from '../platform/otel-tracer.js'
import { connectRedis } from '../platform/redis.js'
import { queueKeys } from '../platform/redis-keys.js'
import { redisOf, witnessedBackendFactory } from './bullmq-backend.js'
import { BullmqVerbs } from './bullmq-verbs.js'
import { FetchProgress } from './fetch-progress.js'
import { spanAttempt } from './job-spans.js'
import { Ledger, type LedgerEvents } from './ledger.js'
import type { Outcome } from './outcome.js'
import { redisAttempts } from './redis-attempts.js'
import { HAND_BACK_DELAY_MS } from './retry-policy.js'
import { Attempts, type ClaimedJob, type Executor, LATE_CLAIM_MS } from './run-attempt.js'

export interface QueueWorkerOptions {
  readonly queue: string
  readonly queueIndex: number
  readonly config: QueueConfig
  /** Written into each job as its owner: `supervisor#incarnation`. */
  readonly owner: string
  /** Fingerprint of the queue's settings: what failed under others is tried again under these. */
  readonly settings: string
  readonly bullPrefix: string
  readonly redisUrl: string
  /** Longest block of an idle fetch, milliseconds. */
  readonly pollIntervalMs: number
  readonly heartbeatTimeoutMs: number
  readonly board: BeatBoard
  readonly loop: LoopWriter
  readonly executor: Executor
  readonly clock: Clock
  /** Default: nothing is traced. */
  readonly tracing?: Tracing
  readonly events: QueueWorkerEvents
}

export interface QueueWorkerEvents {
  attemptEnded(queue: string, outcome: Outcome['kind'], runMs: number): void
  /** A job started for the first time. @param waitMs since it might have */
  firstStart(queue: string, waitMs: number): void
  error(queue: string, error: unknown): void
  /** What the attempts of a queue came to. */
  ledger(queue: string): Omit<LedgerEvents, 'error'>
}

/** The name of our backoff in a job's options. */
export const BACKOFF_TYPE = 'unstuck'

/** After a lost connection BullMQ rests so long before it fetches again; its default of 15 s is a wedge of its own. */
const RETRY_AFTER_ERROR_MS = 1000

/**
 * A job that meets an open breaker lies at least so long, unless the breaker closes before: the way back of last resort,
 * should the list of parked jobs be lost. Longer than the paced release of 200 000 jobs at the default rate. Milliseconds.
 */
const PARKED_MS = 6 * 3_600_000

/** BullMQ's close waits for the cycle in flight without a limit; ours does not. */
const CLOSE_TIMEOUT_MS = 3000

export class QueueWorker extends Service {
  readonly attempts: Attempts
  readonly ledger: Ledger
  readonly #options: QueueWorkerOptions
  readonly #lateClaims = new Set<string>()
  readonly #progress: FetchProgress
  readonly #verbs: BullmqVerbs
  /** Claims (their cells) that Redis knows to be proven. */
  readonly #proven = new WeakSet<object>()
  /** Jobs whose attempt began under another supervisor. */
  readonly #adopted = new Set<string>()
  #redis: Redis | undefined
  #worker: Worker | undefined
  #draining = false

  constructor(options: QueueWorkerOptions) {
    super()
    this.#options = options
    const { queue, queueIndex, config, board, executor, loop, events, owner, settings, bullPrefix } = options
    this.#progress = new FetchProgress(board, loop)
    this.attempts = new Attempts({ queue, queueIndex, board, executor })
    this.#verbs = new BullmqVerbs({
      backend: () => this.#backend,
      attempts: this.attempts,
      ladder: config.attempts,
      stopped: () => this.state === 'stopped',
      onError: (error) => events.error(queue, error),
    })
    this.ledger = new Ledger({
      records: redisAttempts({
        redis: () => redisOf(this.#backend),
        keys: queueKeys(bullPrefix, queue),
        owner,
        attemptsMax: config.attempts.max,
        maxResets: config.attempts.maxResets,
        breaker: config.breaker,
        settings,
      }),
      policy: { ...config.attempts, parkMs: PARKED_MS },
      events: { ...events.ledger(queue), error: (error) => events.error(queue, error) },
    })
  }

  protected override async onStart(): Promise<void> {
    const { queue, config, owner, bullPrefix, redisUrl, pollIntervalMs, loop, tracing } = this.#options
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
        concurrency: slotsOf(config),
        lockDuration: config.lockDurationMs,
        drainDelay: pollIntervalMs / 1000,
        runRetryDelay: RETRY_AFTER_ERROR_MS,
        skipStalledCheck: true,
        ...(tracing?.bullmq ? { telemetry: tracing.bullmq } : {}),
        settings: { backoffStrategy: (made, _type, _error, job) => this.#verbs.backoffOf(made, job) },
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
      onDeferredFailure: (job, token) => this.#deferred(job, token),
    })
  }

  #abort(jobId: string): void {
    const attempt = this.attempts.get(jobId)
    if (attempt) this.#options.board.abortJob(attempt.ref, 'lost its lock')
  }

  async #process(job: Job, token: string): Promise<unknown> {
    const claimed = this.#claim(job, token)
    if (this.#lateClaims.delete(claimed.id) && !(await this.#isOurs(claimed))) throw new DelayedError()
    const adopted = this.#adopted.delete(claimed.id)
    if (!adopted && this.ledger.breakers.isOpen(claimed.group ?? '')) {
      const parked = await this.ledger.admit(claimed)
      if (parked) return this.#verbs.handBack(job, token, parked.delayMs)
    }
    const suspect = job.stalledCounter > 0 || job.repeatJobKey !== undefined
    const alone = suspect && (await this.ledger.isSuspect(job.stalledCounter, job.repeatJobKey))
    if (this.attempts.get(claimed.id)) return this.#refuseTwin(job, token)

    const { queue, clock, events, tracing = NO_TRACING } = this.#options
    const since = clock.monotonicMs()
    // Later starts would count the attempts and backoffs before them as waiting.
    if (job.attemptsStarted === 1 && !adopted)
      events.firstStart(queue, Math.max(0, (job.processedOn ?? job.timestamp) - job.timestamp - job.delay))
    const run = alone ? { ...claimed, alone } : claimed
    const outcome = await spanAttempt(tracing.tracer, queue, claimed, (traceparent) => this.attempts.run(run, traceparent))
    events.attemptEnded(queue, outcome.kind, clock.monotonicMs() - since)
    if (outcome.kind !== 'success') return this.#verbs.apply(job, token, await this.ledger.settle(claimed, outcome))
    this.ledger.breakers.worked(claimed.group ?? '')
    if (alone && job.repeatJobKey !== undefined) await this.ledger.cleared(job.repeatJobKey)
    return outcome.result
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
    const redis = await redisOf(this.#backend)
    const holder = await redis.get(queueKeys(this.#options.bullPrefix, this.#options.queue).lock(job.id))
    return holder === job.token
  }

  /**
   * The job still runs here under an older claim that somebody took back. The older run is fenced off and told so; the
   * new claim waits until it is gone, so that the job never runs twice at once.
   */
  #refuseTwin(job: Job, token: string): Promise<never> {
    this.#abort(String(job.id))
    return this.#verbs.handBack(job, token, HAND_BACK_DELAY_MS)
  }

  /** BullMQ is about to fail a job that never came to us: its failure was deferred. @returns whether it must be kept */
  async #deferred(job: Job, token: string): Promise<boolean> {
    const { id, group, fence } = this.#claim(job, token)
    const kind = await this.ledger.deferred({ id, group, fence, token }, new Error(job.deferredFailure))
    return kind === 'exhausted'
  }

  get #backend(): RedisQueueBackend {
    if (!this.#worker) throw new Error(`queue ${this.#options.queue}: its worker has not started`)
    return (this.#worker as unknown as { backend: RedisQueueBackend }).backend
  }

  /**
   * Goes on with an attempt that another supervisor began, and whose claim was made ours. It comes on top of what is
   * fetched. Resolves when it has ended.
   */
  async adopt(jobId: string, token: string): Promise<void> {
    const worker = this.#worker
    const job = worker ? await Job.fromId(worker, jobId) : undefined
    if (!worker || !job) throw new Error(`queue ${this.#options.queue}: job ${jobId} is gone`)
    job.token = token
    this.#adopted.add(jobId)
    await worker.processJob(job, token, () => false)
  }

  /** Ends one attempt at somebody's wish. Another attempt of that job is not meant. */
  cancel(jobId: string, fence: number): void {
    const attempt = this.attempts.get(jobId)
    if (attempt?.job.fence === fence) attempt.cancel()
  }

  /** Tells Redis of attempts that were heard of later than provenAfterMs after their start: once each, where it matters. */
  async prove(): Promise<void> {
    const { board, config } = this.#options
    const candidates = this.attempts.list().filter(({ job, ref }) => this.#matters(job) && !this.#proven.has(ref))
    if (candidates.length === 0) return
    const cells = new Map(board.readJobs().map((job) => [job.cell, job]))
    for (const { job, ref } of candidates) {
      const cell = cells.get(ref.cell)
      if (cell?.fence !== job.fence || cell.runningMs - cell.silentMs < config.attempts.provenAfterMs) continue
      this.#proven.add(ref)
      await this.ledger.proven(job)
    }
  }

  #matters({ attempt, group }: ClaimedJob): boolean {
    return attempt > 1 || this.ledger.breakers.isOpen(group ?? '')
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
    await within(this.ledger.close(), CLOSE_TIMEOUT_MS)
    if ((await within(worker.close(), CLOSE_TIMEOUT_MS)) === TIMED_OUT) await within(this.#cutOff(worker), CLOSE_TIMEOUT_MS)
    // What BullMQ was given it leaves open.
    this.#redis?.disconnect()
    this.#options.loop.state('stopped')
  }

  /**
   * Without Redis a close does not come to an end. Nor does BullMQ's disconnect: a client that is between two tries says
   * nothing when it is disconnected, and BullMQ waits for a word of the first connection before it turns to the second. The
   * timer of its lock renewal, which the close would have ended next, would keep this process alive.
   */
  async #cutOff(worker: Worker): Promise<void> {
    const locks = Reflect.get(worker, 'lockManager') as { close(): Promise<void> } | undefined
    await locks?.close()
    await this.#backend.disconnectBlocking(false)
    await this.#backend.disconnect().catch(() => undefined)
  }
}

/** The group that `Dispatcher.add` wrote into the job's options. */
function groupOf(job: Job): string | undefined {
  const own: unknown = (job.opts as { unstuck?: { group?: unknown } }).unstuck?.group
  return typeof own === 'string' ? own : undefined
}

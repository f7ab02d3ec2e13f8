/** One queue of a supervisor: what runs its jobs and its BullMQ worker, started and ended together. */

import { QueueWorker, type QueueWorkerEvents } from '../dispatch/bullmq-worker.js'
import type { SessionExecutor } from '../dispatch/session-executor.js'
import type { BeatBoard } from '../heartbeat/beat-board.js'
import type { TerminateOrder } from '../heartbeat/sentinel-protocol.js'
import { Service } from '../kernel/service.js'
import type { Config, QueueConfig } from '../platform/config.js'
import type { Tracing } from '../platform/otel-tracer.js'
import type { Logger } from '../platform/pino-logger.js'
import { systemClock } from '../platform/system-clock.js'
import { type QueueExecutor, queueExecutor } from './executors.js'
import type { SessionHost } from './session-host.js'

export interface QueueRunnerOptions {
  readonly config: Config
  readonly queue: string
  readonly queueConfig: QueueConfig
  /** Index in the board's layout, of the queue and of its fetch loop. */
  readonly index: number
  readonly owner: string
  /** Fingerprint of the queue's settings. */
  readonly settings: string
  readonly redisUrl: string
  readonly board: BeatBoard
  /** What sessions need of the supervisor; there when a queue of it has sessions. */
  readonly host: SessionHost | undefined
  readonly tracing: Tracing
  readonly events: QueueWorkerEvents
  readonly onWornOut: (queue: string) => void
  readonly log: Logger
}

export class QueueRunner extends Service {
  readonly queue: string
  readonly worker: QueueWorker
  readonly #executor: QueueExecutor
  readonly #log: Logger
  readonly #board: BeatBoard
  readonly #index: number

  constructor(options: QueueRunnerOptions) {
    super()
    const { config, queue, queueConfig, index, board, events, log, host, owner, tracing, onWornOut } = options
    const { tracer } = tracing
    this.queue = queue
    this.#log = log
    this.#board = board
    this.#index = index
    const onError = (error: unknown) => events.error(queue, error)
    this.#executor = queueExecutor({ config, queue, queueConfig, index, owner, board, tracer, log, onError, onWornOut, host })
    this.worker = new QueueWorker({
      queue,
      queueIndex: index,
      config: queueConfig,
      owner,
      settings: options.settings,
      bullPrefix: config.redis.bullPrefix,
      redisUrl: options.redisUrl,
      pollIntervalMs: config.loops.pollIntervalMs,
      heartbeatTimeoutMs: config.heartbeat.timeoutMs,
      board,
      loop: board.loopWriter(index),
      executor: this.#executor.executor,
      clock: systemClock,
      tracing,
      events,
    })
  }

  /** A queue of sessions. */
  get sessions(): SessionExecutor | undefined {
    return this.#executor.sessions
  }

  protected override async onStart(): Promise<void> {
    await this.worker.start()
  }

  /** Ends a job's thread, or its own process, because the queue's `onStuck` says so: only the very attempt that was found stuck. */
  terminate(order: TerminateOrder): void {
    const attempt = this.worker.attempts.get(order.jobId)
    if (!attempt || attempt.job.fence !== order.fence) return
    const { jobId, attempt: number, cause, ageMs } = order
    this.#log.warn(
      { event: 'terminated', queue: this.queue, jobId, attempt: number, cause, ageMs },
      `TERMINATED job:${this.queue}/${jobId}: ${cause} for ${Math.round(ageMs / 1000)} s; its ${attempt.job.alone || this.sessions ? 'process is ended' : 'thread is replaced'}`,
    )
    attempt.kill(`${cause} for ${Math.round(ageMs / 1000)} s`)
  }

  /** Jobs that run here now. */
  get busy(): number {
    return this.#board.readJobs().filter((job) => job.queue === this.#index).length
  }

  protected override async onStop(): Promise<void> {
    // What was handed back must not go on running: the threads and processes end first.
    await this.#executor.stop()
    await this.worker.stop()
  }
}

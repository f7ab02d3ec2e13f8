/** One queue of a supervisor: its threads and its BullMQ worker, started and ended together. */
import { QueueWorker, type QueueWorkerEvents } from '../dispatch/bullmq-worker.js'
import { PiscinaExecutor } from '../dispatch/piscina-executor.js'
import type { BeatBoard } from '../heartbeat/beat-board.js'
import type { TerminateOrder } from '../heartbeat/sentinel-protocol.js'
import { Service } from '../kernel/service.js'
import type { Config, QueueConfig } from '../platform/config.js'
import type { Logger } from '../platform/pino-logger.js'
import { systemClock } from '../platform/system-clock.js'

export interface QueueRunnerOptions {
  readonly config: Config
  readonly queue: string
  readonly queueConfig: QueueConfig & { readonly handler: string }
  /** Index in the board's layout, of the queue and of its fetch loop. */
  readonly index: number
  readonly owner: string
  readonly redisUrl: string
  readonly board: BeatBoard
  readonly events: QueueWorkerEvents
  readonly log: Logger
}

/** Turns of an event loop are stamped so many times within the threshold that judges them, at least every half second. */
export const tickMsFor = (thresholdMs: number): number => Math.min(500, Math.max(25, Math.floor(thresholdMs / 20)))

export class QueueRunner extends Service {
  readonly queue: string
  readonly worker: QueueWorker
  readonly #executor: PiscinaExecutor
  readonly #log: Logger
  readonly #board: BeatBoard
  readonly #index: number

  constructor(options: QueueRunnerOptions) {
    super()
    const { config, queue, queueConfig, index, board, events, log } = options
    this.queue = queue
    this.#log = log
    this.#board = board
    this.#index = index
    this.#executor = new PiscinaExecutor({
      board,
      queueIndex: index,
      handler: queueConfig.handler,
      threads: queueConfig.threads,
      jobsPerThread: queueConfig.jobsPerThread,
      tickMs: tickMsFor(config.heartbeat.threadBlockedMs),
      threadModule: new URL('./task-thread.js', import.meta.url),
      onLog: ({ level, message, jobId, attempt }) => log[level]({ event: 'job_log', queue, jobId, attempt }, message),
      onError: (error) => events.error(queue, error instanceof Error ? error : new Error(String(error))),
    })
    this.worker = new QueueWorker({
      queue,
      queueIndex: index,
      config: queueConfig,
      owner: options.owner,
      bullPrefix: config.redis.bullPrefix,
      redisUrl: options.redisUrl,
      pollIntervalMs: config.loops.pollIntervalMs,
      heartbeatTimeoutMs: config.heartbeat.timeoutMs,
      board,
      loop: board.loopWriter(index),
      executor: this.#executor,
      clock: systemClock,
      events,
    })
  }

  protected override async onStart(): Promise<void> {
    await this.worker.start()
  }

  /** Ends a job's thread because the queue's `onStuck` says so: only the very attempt that was found stuck. */
  terminate(order: TerminateOrder): void {
    const attempt = this.worker.attempts.get(order.jobId)
    if (!attempt || attempt.job.fence !== order.fence) return
    const { jobId, attempt: number, cause, ageMs } = order
    this.#log.warn(
      { event: 'terminated', queue: this.queue, jobId, attempt: number, cause, ageMs },
      `TERMINATED job:${this.queue}/${jobId}: ${cause} for ${Math.round(ageMs / 1000)} s; its thread is replaced`,
    )
    attempt.kill(`${cause} for ${Math.round(ageMs / 1000)} s`)
  }

  /** Jobs that run here now. */
  get busy(): number {
    return this.#board.readJobs().filter((job) => job.queue === this.#index).length
  }

  protected override async onStop(): Promise<void> {
    // What was handed back must not go on running: the threads end first.
    await this.#executor.stop()
    await this.worker.stop()
  }
}

/** One queue of a supervisor: its threads, the processes of its suspects and its BullMQ worker, started and ended together. */

import { QueueWorker, type QueueWorkerEvents } from '../dispatch/bullmq-worker.js'
import { ChildExecutor } from '../dispatch/child-executor.js'
import { PiscinaExecutor } from '../dispatch/piscina-executor.js'
import { suspectsApart } from '../dispatch/suspects-apart.js'
import type { ThreadLogLine } from '../dispatch/thread-protocol.js'
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
  /** Fingerprint of the queue's settings. */
  readonly settings: string
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
  readonly #threads: PiscinaExecutor
  readonly #alone: ChildExecutor
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
    const running = {
      board,
      handler: queueConfig.handler,
      tickMs: tickMsFor(config.heartbeat.threadBlockedMs),
      onLog: ({ level, message, jobId, attempt }: ThreadLogLine) =>
        log[level]({ event: 'job_log', queue, jobId, attempt }, message),
    }
    this.#alone = new ChildExecutor({ ...running, soloModule: new URL('./solo-process.js', import.meta.url) })
    this.#threads = new PiscinaExecutor({
      ...running,
      queueIndex: index,
      threads: queueConfig.threads,
      jobsPerThread: queueConfig.jobsPerThread,
      threadModule: new URL('./task-thread.js', import.meta.url),
      onError: (error) => events.error(queue, error instanceof Error ? error : new Error(String(error))),
    })
    this.worker = new QueueWorker({
      queue,
      queueIndex: index,
      config: queueConfig,
      owner: options.owner,
      settings: options.settings,
      bullPrefix: config.redis.bullPrefix,
      redisUrl: options.redisUrl,
      pollIntervalMs: config.loops.pollIntervalMs,
      heartbeatTimeoutMs: config.heartbeat.timeoutMs,
      board,
      loop: board.loopWriter(index),
      executor: suspectsApart(this.#threads, this.#alone),
      clock: systemClock,
      events,
    })
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
      `TERMINATED job:${this.queue}/${jobId}: ${cause} for ${Math.round(ageMs / 1000)} s; its ${attempt.job.alone ? 'process is ended' : 'thread is replaced'}`,
    )
    attempt.kill(`${cause} for ${Math.round(ageMs / 1000)} s`)
  }

  /** Jobs that run here now. */
  get busy(): number {
    return this.#board.readJobs().filter((job) => job.queue === this.#index).length
  }

  protected override async onStop(): Promise<void> {
    // What was handed back must not go on running: the threads and processes end first.
    await Promise.all([this.#threads.stop(), this.#alone.stop()])
    await this.worker.stop()
  }
}

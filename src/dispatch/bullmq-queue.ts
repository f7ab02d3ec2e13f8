/** Adds jobs to BullMQ's queues, with each queue's attempts policy written into the job. */
import type { JobsOptions } from 'bullmq'
import type { QueueConfig } from '../platform/config.js'
import type { QueueHandles } from './bullmq-handles.js'
import { BACKOFF_TYPE } from './bullmq-worker.js'
import { checkJobInput, type JobInput } from './job-input.js'

export interface QueueWriterOptions {
  readonly queues: QueueHandles
  /** Attempts policy of a queue. */
  readonly attemptsOf: (queue: string) => QueueConfig['attempts']
}

/** Completed jobs are kept for a day, and at most so many: Redis is no archive. */
const KEEP_COMPLETED = { age: 86_400, count: 10_000 }

/** Jobs that one addBulk carries: one Redis pipeline; more would only grow the buffers. */
const BULK = 1000

export class QueueWriter {
  readonly #options: QueueWriterOptions

  constructor(options: QueueWriterOptions) {
    this.#options = options
  }

  /**
   * Adds them all, or none of them when one is refused.
   * @param onProgress told how many are in Redis
   * @returns their ids, in order
   * @throws UserError INPUT_INVALID naming the job
   */
  async addBulk(
    queue: string,
    inputs: readonly JobInput[],
    where: (index: number) => string = (index) => `job ${index + 1}`,
    onProgress?: (added: number) => void,
  ): Promise<string[]> {
    const jobs = inputs.map((input, index) => this.#bulkJob(queue, checkJobInput(input, where(index))))
    const ids: string[] = []
    for (let from = 0; from < jobs.length; from += BULK) {
      const added = await this.#options.queues.open(queue).addBulk(jobs.slice(from, from + BULK))
      for (const job of added) ids.push(String(job.id))
      onProgress?.(ids.length)
    }
    return ids
  }

  #bulkJob(queue: string, input: JobInput): { name: string; data: unknown; opts: JobsOptions } {
    const { attempts, ...rest } = input
    const opts: JobsOptions & { unstuck?: { group: string } } = {
      attempts: attempts ?? this.#options.attemptsOf(queue).max,
      backoff: { type: BACKOFF_TYPE },
      removeOnComplete: KEEP_COMPLETED,
    }
    if (rest.jobId !== undefined) opts.jobId = rest.jobId
    if (rest.priority !== undefined) opts.priority = rest.priority
    if (rest.delay !== undefined) opts.delay = rest.delay
    if (rest.group !== undefined) opts.unstuck = { group: rest.group }
    return { name: rest.name ?? queue, data: rest.data, opts }
  }
}

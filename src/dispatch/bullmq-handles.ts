/** BullMQ's Queue objects, one for each name, over one connection. */
import { Queue, type QueueOptions, type Telemetry } from 'bullmq'

export interface QueueHandlesOptions {
  readonly connection: QueueOptions['connection']
  readonly bullPrefix: string
  readonly onError: (error: Error) => void
}

export class QueueHandles {
  readonly #options: QueueHandlesOptions
  readonly #queues = new Map<string, Queue>()
  #telemetry: Telemetry | undefined

  constructor(options: QueueHandlesOptions) {
    this.#options = options
  }

  /** Jobs that are added from now on bear the trace of whoever adds them. To be called before a queue is opened. */
  trace(telemetry: Telemetry | undefined): void {
    this.#telemetry = telemetry
  }

  /** BullMQ writes a queue's meta key when it is opened: only for a queue that there is, or shall be. */
  open(name: string): Queue {
    let queue = this.#queues.get(name)
    if (!queue) {
      const { connection, bullPrefix, onError } = this.#options
      const traced = this.#telemetry ? { telemetry: this.#telemetry } : {}
      queue = new Queue(name, { connection, prefix: bullPrefix, ...traced })
      queue.on('error', onError)
      this.#queues.set(name, queue)
    }
    return queue
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()))
    this.#queues.clear()
  }
}

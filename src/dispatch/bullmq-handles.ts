/** BullMQ's Queue objects, one for each name, over one connection. */
import { Queue, type QueueOptions } from 'bullmq'

export interface QueueHandlesOptions {
  readonly connection: QueueOptions['connection']
  readonly bullPrefix: string
  readonly onError: (error: Error) => void
}

export class QueueHandles {
  readonly #options: QueueHandlesOptions
  readonly #queues = new Map<string, Queue>()

  constructor(options: QueueHandlesOptions) {
    this.#options = options
  }

  /** BullMQ writes a queue's meta key when it is opened: only for a queue that there is, or shall be. */
  open(name: string): Queue {
    let queue = this.#queues.get(name)
    if (!queue) {
      const { connection, bullPrefix, onError } = this.#options
      queue = new Queue(name, { connection, prefix: bullPrefix })
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

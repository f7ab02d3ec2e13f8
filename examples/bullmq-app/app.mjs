/** An application that delivers webhooks with a BullMQ worker, and the one line that has it watched. */
import { createServer } from 'node:http'
import { Queue, Worker } from 'bullmq'
import { watchWorker } from 'unstuck/watch'

const connection = { url: process.env.REDIS_URL }

const worker = new Worker(
  'webhooks',
  async ({ id, data }) => {
    const { status } = await fetch(data.url, { method: 'POST', body: JSON.stringify(data.order) })
    console.log(`delivered ${id}: ${status}`)
  },
  { connection, concurrency: 4 },
)
worker.on('failed', (job, error) => console.log(`failed ${job?.id}: ${error.message}`))

// The one line. 5 s, so that trouble shows at once; what your longest job takes without a sign of life is more like it.
watchWorker(worker, { name: 'webhooks', silentAfterMs: 5000 })

// A customer whose server takes the request and lets it hang for 20 s. No timeout ends it, no error tells of it.
const customer = createServer(({ url }, response) => {
  setTimeout(() => response.end(), url === '/slow' ? 20_000 : 0)
})
await new Promise((listening) => customer.listen(0, '127.0.0.1', listening))
const url = `http://127.0.0.1:${customer.address().port}`

const queue = new Queue('webhooks', { connection })
await queue.add('order', { url, order: 1 }, { jobId: 'order-1' })
await queue.add('order', { url: `${url}/slow`, order: 2 }, { jobId: 'order-2' })

process.once('SIGINT', close).once('SIGTERM', close)

async function close() {
  customer.closeAllConnections()
  customer.close()
  // Says goodbye to the watchdogs too.
  await worker.close()
  await queue.close()
}

/** The task thread without a board: the same job view, a context of the same form that tells nobody. */
import { parentPort, workerData } from 'node:worker_threads'
import { loadHandler } from '../../dist/dispatch/node-load-handler.js'

let handler

class Context {
  #abort
  constructor({ id, queue, attempt, fence }) {
    this.fence = fence
    const say = (level) => (message) => parentPort.postMessage({ level, message: String(message), queue, jobId: id, attempt })
    this.log = { info: say('info'), warn: say('warn'), error: say('error') }
  }

  get signal() {
    this.#abort ??= new AbortController()
    return this.#abort.signal
  }

  heartbeat = () => undefined
  step = async (_name, run) => await run()
}

export default async function runTask(task) {
  const { id, name, queue, data, group, attempt } = task
  try {
    handler ??= loadHandler(workerData.handler)
    const result = await (await handler)({ id, name, queue, data, group, attempt }, new Context(task))
    return { ok: true, json: result === undefined ? undefined : JSON.stringify(result) }
  } catch (error) {
    return { ok: false, error: { name: error.name, message: error.message, stack: error.stack, permanent: false } }
  }
}

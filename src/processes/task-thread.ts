/**
 * A task thread: loads the queue's handler once and runs jobs in it. It writes its own turns and its jobs' progress on
 * the board, and nothing else: no Redis, no message but the reply. While it has no job piscina parks it in
 * Atomics.wait; then it does not turn, and nobody judges it.
 */
import { parentPort, threadId, workerData } from 'node:worker_threads'
import { loadHandler } from '../dispatch/node-load-handler.js'
import { runHandler } from '../dispatch/run-handler.js'
import { ThreadContext } from '../dispatch/thread-context.js'
import type { ThreadLogLine, ThreadReply, ThreadSetup, ThreadTask } from '../dispatch/thread-protocol.js'
import { BeatBoard } from '../heartbeat/beat-board.js'
import type { Handler } from '../kernel/job.js'
import { systemClock } from '../platform/system-clock.js'
import { ownTid } from '../stackdump/node-proc-threads.js'
import { installLook } from '../stackdump/thread-look.js'

const setup = workerData as ThreadSetup
const board = new BeatBoard(setup.board, systemClock.monotonicMs)
const tid = ownTid()
const cell = board.claimThread(setup.queue, threadId, tid)
const running = new Set<ThreadContext>()
/** Jobs whose handler's promise was collected: nobody can settle it any more. */
const collected = new WeakSet<ThreadContext>()
/** Handlers' promises that are not watched yet. */
const begun = new Map<ThreadContext, object>()
const promises = new FinalizationRegistry<ThreadContext>((job) => collected.add(job))
let handler: Promise<Handler> | undefined

setInterval(() => {
  if (cell >= 0) board.threadTurned(cell)
  for (const job of running) job.checkAbort()
  // Not at once: most jobs are over before, and never pay for it.
  for (const [job, promise] of begun) promises.register(promise, job, job)
  begun.clear()
}, setup.tickMs).unref()

installLook(() => ({
  ...(tid === undefined ? {} : { tid }),
  jobs: [...running].map((job) => ({ ...job.look(), ...(collected.has(job) ? { collected: true } : {}) })),
}))

/** Loads the handler at the first job and keeps it; a load that failed is tried again by the next job. */
function theHandler(): Promise<Handler> {
  handler ??= loadHandler(setup.handler).catch((error: unknown) => {
    handler = undefined
    throw error
  })
  return handler
}

function postLog(line: ThreadLogLine): void {
  parentPort?.postMessage(line)
}

/** Runs one job. Never rejects. */
export default async function runTask(task: ThreadTask): Promise<ThreadReply> {
  if (cell >= 0) {
    board.threadTook(cell)
    board.jobOnThread(task, cell)
  }
  const job = new ThreadContext(board, task, postLog)
  running.add(job)
  const reply = await runHandler(theHandler, task, job, (promise) => begun.set(job, promise))
  if (!begun.delete(job)) promises.unregister(job)
  running.delete(job)
  if (cell >= 0) board.threadGave(cell)
  return reply
}

/**
 * A task thread: loads the queue's handler once and runs jobs in it. It writes its own turns and its jobs' progress on
 * the board, and nothing else: no Redis, no message but the reply. While it has no job piscina parks it in
 * Atomics.wait; then it does not turn, and nobody judges it.
 */
import { parentPort, threadId, workerData } from 'node:worker_threads'
import { loadHandler } from '../dispatch/node-load-handler.js'
import { createContext, type ThreadJob } from '../dispatch/thread-context.js'
import type { ThreadLogLine, ThreadReply, ThreadSetup, ThreadTask } from '../dispatch/thread-protocol.js'
import { BeatBoard } from '../heartbeat/beat-board.js'
import { messageOf, PermanentError } from '../kernel/errors.js'
import type { Handler } from '../kernel/job.js'
import { systemClock } from '../platform/system-clock.js'

const setup = workerData as ThreadSetup
const board = new BeatBoard(setup.board, systemClock.monotonicMs)
const cell = board.claimThread(setup.queue, threadId)
const running = new Set<ThreadJob>()
let handler: Promise<Handler> | undefined

setInterval(() => {
  if (cell >= 0) board.threadTurned(cell)
  for (const job of running) job.checkAbort()
}, setup.tickMs).unref()

/** Loads the handler at the first job and keeps it; a load that failed is tried again by the next job. */
function theHandler(): Promise<Handler> {
  handler ??= loadHandler(setup.handler).catch((error: unknown) => {
    handler = undefined
    throw error
  })
  return handler
}

/** Runs one job. Never rejects: what a handler throws would lose its class on the way out of the thread. */
export default async function runTask(task: ThreadTask): Promise<ThreadReply> {
  if (cell >= 0) {
    board.threadTook(cell)
    board.jobOnThread(task, cell)
  }
  const { id, name, queue, data, group, attempt } = task
  const job = createContext(board, task, (line) => parentPort?.postMessage(line satisfies ThreadLogLine))
  running.add(job)
  try {
    const handle = await theHandler()
    return { ok: true, json: toJson(await handle({ id, name, queue, data, group, attempt }, job.context)) }
  } catch (error) {
    return { ok: false, error: describe(error) }
  } finally {
    running.delete(job)
    if (cell >= 0) board.threadGave(cell)
  }
}

/** Running a handler again, whose work is done, would not make its result storable: such a failure is permanent. */
function toJson(result: unknown): string | undefined {
  if (result === undefined) return undefined
  let json: string | undefined
  try {
    json = JSON.stringify(result)
  } catch (error) {
    throw new PermanentError(`the handler's result cannot be stored as JSON: ${messageOf(error)}`)
  }
  if (json === undefined) throw new PermanentError(`the handler's result cannot be stored as JSON: it is a ${typeof result}`)
  return json
}

const MAX_STACK = 4000

/** Whatever was thrown must leave the thread: only texts do so safely. */
function describe(thrown: unknown): Extract<ThreadReply, { ok: false }>['error'] {
  if (!(thrown instanceof Error)) {
    return { name: 'Error', message: `the handler threw ${text(thrown)}`, stack: '', permanent: false }
  }
  const permanent = ('permanent' in thrown && thrown.permanent === true) || thrown.name === 'UnrecoverableError'
  return {
    name: text(thrown.name),
    message: text(thrown.message),
    stack: text(thrown.stack ?? '').slice(0, MAX_STACK),
    permanent,
  }
}

function text(value: unknown): string {
  try {
    return String(value)
  } catch {
    return Object.prototype.toString.call(value)
  }
}

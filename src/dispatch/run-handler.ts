/** Runs a queue's handler on one job, and brings its result or its error into a shape that can leave the thread or process. */
import { runAsCurrent } from '../kernel/current-job.js'
import { messageOf, PermanentError } from '../kernel/errors.js'
import type { Handler, JobContext } from '../kernel/job.js'
import type { ThreadError } from './outcome.js'
import type { ThreadReply, ThreadTask } from './thread-protocol.js'

/**
 * Never rejects: what a handler throws would lose its class on the way out.
 * @param load gives the handler; what it throws is the job's failure
 * @param onBegun told of the promise that the handler gave, before it is awaited
 */
export async function runHandler(
  load: () => Promise<Handler>,
  task: ThreadTask,
  context: JobContext,
  onBegun?: (promise: object) => void,
): Promise<ThreadReply> {
  const { id, name, queue, data, group, attempt } = task
  try {
    const handle = await load()
    const begun = runAsCurrent(context, handle, [{ id, name, queue, data, group, attempt }, context])
    if (onBegun && begun instanceof Promise) onBegun(begun)
    return { ok: true, json: toJson(await begun) }
  } catch (error) {
    return { ok: false, error: describe(error) }
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
function describe(thrown: unknown): ThreadError {
  if (!(thrown instanceof Error)) {
    return { name: 'Error', message: `the handler threw ${text(thrown)}`, stack: '', permanent: false }
  }
  const permanent = ('permanent' in thrown && thrown.permanent === true) || thrown.name === 'UnrecoverableError'
  return {
    name: text(thrown.name),
    message: text(thrown.message),
    stack: text(thrown.stack ?? '').slice(0, MAX_STACK),
    permanent,
    ...retryAfterIn(thrown),
  }
}

/** A day: what waits longer is a schedule, and no rate limit. */
const MOST_RETRY_AFTER_MS = 86_400_000

function retryAfterIn(thrown: Error): { retryAfterMs?: number } {
  // BullMQ's own.
  if (thrown.name === 'RateLimitError') return { retryAfterMs: 0 }
  if (!('retryAfterMs' in thrown) || thrown.name !== 'RateLimitedError') return {}
  const ms = Number(thrown.retryAfterMs)
  return { retryAfterMs: Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MOST_RETRY_AFTER_MS) : 0 }
}

function text(value: unknown): string {
  try {
    return String(value)
  } catch {
    return Object.prototype.toString.call(value)
  }
}

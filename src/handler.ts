/**
 * `unstuck/handler`: what code that runs inside a job uses, wherever it runs: a handler of unstuck's, or the processor of a
 * BullMQ worker that `watchWorker` watches. The job is found through the asynchronous calls that lead here.
 */
import { findCurrentJobs } from './kernel/current-job.js'

export { FenceLostError, PermanentError, RateLimitedError } from './kernel/errors.js'
export type { Handler, JobContext, JobLog, JobView } from './kernel/job.js'
export { assertFence } from './launch/node-socket-client.js'

const jobs = findCurrentJobs()

/**
 * Names what is awaited: STUCK lines and dumps show it with its age. A step is a sign of life too, when it is entered and
 * when it is left. Outside a job it only runs `run`.
 * @param name shown up to 96 bytes
 * @param run its result, or error, is passed on
 */
export function step<T>(name: string, run: () => T | Promise<T>): Promise<T> {
  const job = jobs.getStore()
  return job ? job.step(name, run) : Promise.resolve().then(run)
}

/**
 * The job is alive. A job without heartbeat or step for `silentAfterMs` (default 300 000 ms) is stuck. Outside a job it does nothing.
 * @param progress when given, it counts as life only if it differs from the last one
 */
export function heartbeat(progress?: string | number): void {
  jobs.getStore()?.heartbeat(progress)
}

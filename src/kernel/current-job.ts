/**
 * The job that the code now runs for, found through the asynchronous calls that lead here.
 *
 * Node's AsyncLocalStorage costs every promise of the process a little, so nothing of it exists until somebody imports
 * `unstuck/handler`, whose functions need it. One for the whole process, also where two copies of this package are loaded.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { JobContext } from './job.js'

export type CurrentJob = Pick<JobContext, 'heartbeat' | 'step'>

const KEY = Symbol.for('unstuck.currentJob')

/** From now on jobs can be found. */
export function findCurrentJobs(): AsyncLocalStorage<CurrentJob> {
  const known = storage()
  if (known) return known
  const made = new AsyncLocalStorage<CurrentJob>()
  Reflect.set(globalThis, KEY, made)
  return made
}

/** Runs what belongs to this job; whatever it calls finds it, if anybody has asked for that. */
export function runAsCurrent<T, A extends unknown[]>(job: CurrentJob, run: (...args: A) => T, args: A): T {
  const jobs = storage()
  return jobs ? jobs.run(job, run, ...args) : run(...args)
}

let found: AsyncLocalStorage<CurrentJob> | undefined

/** Looked up until it is there: that is asked for each job. */
function storage(): AsyncLocalStorage<CurrentJob> | undefined {
  found ??= Reflect.get(globalThis, KEY) as AsyncLocalStorage<CurrentJob> | undefined
  return found
}

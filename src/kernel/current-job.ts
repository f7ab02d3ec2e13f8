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

/** Whether anybody has asked for it. */
export function canFindJobs(): boolean {
  return storage() !== undefined
}

/** Runs what belongs to this job; whatever it calls finds it. */
export function runAsCurrent<T>(job: CurrentJob, run: () => T): T {
  const jobs = storage()
  return jobs ? jobs.run(job, run) : run()
}

function storage(): AsyncLocalStorage<CurrentJob> | undefined {
  return Reflect.get(globalThis, KEY) as AsyncLocalStorage<CurrentJob> | undefined
}

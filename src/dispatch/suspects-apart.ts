/** One executor for the worker out of two: suspects run alone, in processes of their own, all other jobs in threads. */
import type { JobCellRef } from '../heartbeat/beat-board.js'
import type { Executor } from './run-attempt.js'

/** Knows which jobs it runs now. */
export interface LoneExecutor extends Executor {
  runs(ref: JobCellRef): boolean
}

export function suspectsApart(threads: Executor, alone: LoneExecutor): Executor {
  return {
    run: (task, token) => (task.alone ? alone : threads).run(task, token),
    kill: (ref, reason) => (alone.runs(ref) ? alone : threads).kill(ref, reason),
  }
}

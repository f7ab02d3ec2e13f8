/**
 * How an attempt ended. A closed list: whatever happens to a job, it is one of these, and the retry policy decides
 * from it alone what becomes of the job.
 */

/** An error as it leaves a thread, where its class, code and fields would be lost. Never holds job data. */
export interface ThreadError {
  readonly name: string
  readonly message: string
  readonly stack: string
  readonly permanent: boolean
}

export type Outcome =
  | { readonly kind: 'success'; readonly result: unknown }
  /** It failed, and may work next time. */
  | { readonly kind: 'transient'; readonly error: Error }
  /** It cannot work until somebody changes something. */
  | { readonly kind: 'permanent'; readonly error: Error }
  /** Its thread ended under it: terminated, out of memory, process.exit, a crash. */
  | { readonly kind: 'killed'; readonly error: Error }
  /** Not the job's doing: it goes back, uncharged. */
  | { readonly kind: 'handed_back'; readonly reason: HandBackReason }

export type HandBackReason = 'shutdown' | 'thread_neighbour'

export const OUTCOME_KINDS: readonly Outcome['kind'][] = ['success', 'transient', 'permanent', 'killed', 'handed_back']

/** The error that a handler threw, rebuilt on the main thread with its own name and stack. */
export function revive(thrown: ThreadError): Error {
  const error = new Error(thrown.message)
  error.name = thrown.name
  error.stack = thrown.stack
  return error
}

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
  /** Not a failure: it wants to be run again after so long, milliseconds (0: the handler named no time). */
  readonly retryAfterMs?: number
}

export type Outcome =
  | { readonly kind: 'success'; readonly result: unknown }
  /** It failed, and may work next time. */
  | { readonly kind: 'transient'; readonly error: Error }
  /** It cannot work until somebody changes something. */
  | { readonly kind: 'permanent'; readonly error: Error }
  /** Its thread ended under it: terminated, out of memory, process.exit, a crash. */
  | {
      readonly kind: 'killed'
      readonly error: Error
      /** Nothing else ran there: the job was the reason. */
      readonly alone?: boolean
      /** We ended it ourselves, which says nothing against the job. */
      readonly ordered?: true
    }
  /** Somebody asked for its end while it ran. */
  | { readonly kind: 'cancelled'; readonly error: Error }
  /** Not the job's doing: it goes back, uncharged. */
  | { readonly kind: 'handed_back'; readonly reason: HandBackReason; readonly delayMs?: number }

export type HandBackReason = 'shutdown' | 'thread_neighbour' | 'rate_limited' | 'no_slot'

/** Every end of an attempt; that its supervisor was lost is what others find out. */
export type OutcomeKind = Outcome['kind'] | 'supervisor_lost'

export const OUTCOME_KINDS: readonly OutcomeKind[] = [
  'success',
  'transient',
  'permanent',
  'killed',
  'supervisor_lost',
  'cancelled',
  'handed_back',
]

/** The error that a handler threw, rebuilt on the main thread with its own name and stack. */
export function revive(thrown: ThreadError): Error {
  const error = new Error(thrown.message)
  error.name = thrown.name
  error.stack = thrown.stack
  return error
}

/** What an observer knows of one queue after one look. Pure types; `redis-queue-facts.ts` reads them. */
export interface QueueFacts {
  readonly queue: string
  /** Jobs that could be taken now: the wait list, the prioritized set and BullMQ's old list of paused jobs. */
  readonly waiting: number
  readonly active: number
  readonly delayed: number
  readonly completed: number
  /** BullMQ's failed set, the exhausted included. */
  readonly failed: number
  /** Out of attempts by failures that may pass: they come back by themselves. */
  readonly exhausted: number
  /** Failed for good: changed settings or a hand free them. */
  readonly permanent: number
  /** The groups whose breaker is not closed, sorted; '' stands for jobs without a group. */
  readonly breakersOpen: readonly string[]
  readonly paused: boolean
  /** Milliseconds that a rate limit of the queue still holds; 0 when none does. */
  readonly limitedMs: number
  /** The queue's own limit on running jobs is reached. */
  readonly maxed: boolean
  /**
   * The job that is taken next, as `id:starts`: while it stays the same and slots are free, nothing is taken.
   * Undefined when none waits.
   */
  readonly head: string | undefined
  /** Age of the head's creation by the store's clock, to show only. */
  readonly headAgeMs: number | undefined
  /** Schedulers whose next job is missing, ended without a successor, or lies past due among the delayed. */
  readonly overdueSchedulers: readonly string[]
  /** Live supervisors that take jobs of this queue, busy ones included. */
  readonly eligible: number
  /** Those with a free slot. */
  readonly free: number
}

/**
 * Why a job is not running, or what it does now: one reason from a closed list. Pure; `redis-job-place.ts` says where
 * BullMQ keeps the job, and whoever reads the beats says who carries it.
 */
export type ExplainReason =
  | 'not_found'
  | 'completed'
  | 'failed'
  | 'running'
  | 'orphaned'
  | 'backing_off'
  | 'scheduled'
  | 'paused'
  | 'no_worker'
  | 'next'
  | 'behind'
  | 'waiting_for_children'

/** Where BullMQ keeps a job. */
export interface JobPlace {
  readonly state: 'not_found' | 'completed' | 'failed' | 'active' | 'delayed' | 'waiting' | 'waiting-children'
  readonly attemptsMade: number
  /** Delayed: wall clock at which it may run, milliseconds. */
  readonly dueAt?: number
  /** Waiting: jobs that are taken before it. */
  readonly ahead?: number
  readonly lastError?: string
  readonly paused: boolean
}

/** The beat's word on a running job. */
export interface Carrier {
  readonly supervisor: string
  readonly runningMs: number
  readonly silentMs: number
  readonly step?: string
  readonly stepMs?: number
}

export interface Explanation {
  readonly queue: string
  readonly id: string
  readonly reason: ExplainReason
  /** The reason in a sentence. Never holds job data. */
  readonly why: string
  readonly attemptsMade: number
  readonly lastError?: string
  /** Running: who carries it, for how long, and in which step since when. */
  readonly carrier?: Carrier
  /** Backing off or scheduled: ISO 8601. */
  readonly retryAt?: string
  readonly ahead?: number
}

export interface ExplainInput {
  readonly queue: string
  readonly id: string
  readonly place: JobPlace
  readonly carrier: Carrier | undefined
  /** Live supervisors that take jobs of the queue. */
  readonly eligible: number
}

export function explain(input: ExplainInput): Explanation {
  const { queue, id, place, carrier } = input
  const { attemptsMade, lastError, dueAt, ahead } = place
  const [reason, why] = verdictOf(input)
  return {
    ...{ queue, id, reason, why, attemptsMade },
    ...(lastError === undefined ? {} : { lastError }),
    ...(reason === 'running' && carrier ? { carrier } : {}),
    ...(dueAt === undefined ? {} : { retryAt: new Date(dueAt).toISOString() }),
    ...(ahead === undefined ? {} : { ahead }),
  }
}

function verdictOf({ queue, id, place, carrier, eligible }: ExplainInput): readonly [ExplainReason, string] {
  switch (place.state) {
    case 'not_found':
      return ['not_found', `queue ${queue} has no job ${JSON.stringify(id)}; completed jobs are kept for a day`]
    case 'completed':
      return ['completed', 'completed']
    case 'failed':
      return [
        'failed',
        `failed for good after ${counted(place.attemptsMade, 'attempt')}: ${place.lastError ?? 'no reason was kept'}`,
      ]
    case 'active':
      return carrier
        ? ['running', runningOn(carrier)]
        : ['orphaned', 'in progress, but no live supervisor carries it; it is taken back soon']
    case 'delayed':
      return delayedUntil(place)
    case 'waiting-children':
      return ['waiting_for_children', 'waits until its child jobs are done']
    case 'waiting':
      return waiting(place, eligible)
  }
}

function runningOn({ supervisor, runningMs, silentMs, step, stepMs }: Carrier): string {
  const where = step === undefined ? '' : `, in step ${step} for ${seconds(stepMs ?? 0)}`
  return `runs on supervisor ${supervisor} for ${seconds(runningMs)}${where}; last sign of life ${seconds(silentMs)} ago`
}

function delayedUntil({ dueAt = 0, attemptsMade, lastError }: JobPlace): readonly [ExplainReason, string] {
  const until = new Date(dueAt).toISOString()
  if (attemptsMade === 0) return ['scheduled', `may run at ${until}`]
  return ['backing_off', `backing off until ${until} after attempt ${attemptsMade}: ${lastError ?? 'no reason was kept'}`]
}

function waiting({ paused, ahead = 0 }: JobPlace, eligible: number): readonly [ExplainReason, string] {
  if (paused) return ['paused', 'waits: the queue is paused']
  if (eligible === 0) return ['no_worker', 'waits: no live supervisor serves the queue']
  if (ahead === 0) return ['next', 'waits: it is the next to be taken']
  return ['behind', `waits behind ${counted(ahead, 'other job')}`]
}

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

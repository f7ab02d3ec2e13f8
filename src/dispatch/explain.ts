/**
 * Why a job is not running, or what it does now: one reason from a closed list, with all that is shown of a job. Pure;
 * `redis-job-place.ts` says where BullMQ keeps the job, and whoever reads the beats says who carries it. Nothing of what
 * a job was given to do is in here.
 */
import type { FailedKind } from './retry-policy.js'

export type ExplainReason =
  | 'not_found'
  | 'completed'
  /** Failed under another program's worker. */
  | 'failed'
  | 'cancelled'
  /** Out of attempts: comes back by itself. */
  | 'cooldown'
  | 'permanent'
  /** Stopped as the one that its supervisors or threads die of. */
  | 'waits_for_a_person'
  | 'running'
  /** Its session is being started, and has shown no life yet. */
  | 'launching'
  | 'orphaned'
  | 'backing_off'
  | 'scheduled'
  | 'breaker'
  | 'paused'
  | 'no_worker'
  /** Every slot is taken, or the queue's own limit is reached. */
  | 'concurrency'
  | 'next'
  | 'behind'
  | 'waiting_for_children'

export type JobStatus =
  | 'waiting'
  | 'scheduled'
  | 'backing-off'
  | 'launching'
  | 'running'
  | 'completed'
  | 'exhausted'
  | 'failed'
  | 'cancelled'

/** An open breaker, as Redis has it. Times are the store's. */
export interface OpenBreaker {
  readonly openedAt: number
  readonly nextProbeAt: number
  readonly failures: number
}

/** Where BullMQ keeps a job, and what is written in it. Times are milliseconds by the store's clock. */
export interface JobPlace {
  readonly state: 'not_found' | 'completed' | 'failed' | 'active' | 'delayed' | 'waiting' | 'waiting-children'
  readonly now: number
  readonly name: string
  readonly attemptsMade: number
  /** Undefined: the job names none, and the queue's policy holds. */
  readonly attemptsMax?: number
  readonly fence: number
  /** Supervisors and threads that it lost. */
  readonly losses: number
  /** Cooldown and heartbeat resets since the last full one. */
  readonly resets: number
  readonly group?: string
  /** Failed: how it may come back; undefined when another program failed it. */
  readonly kind?: FailedKind
  readonly failedAt?: number
  readonly cooldownUntil?: number
  /** Delayed: when it may run. */
  readonly dueAt?: number
  /** It was taken while this breaker was open, and lies there for it. */
  readonly parkedBy?: OpenBreaker
  /** Waiting: jobs that are taken before it. */
  readonly ahead?: number
  readonly lastError?: string
  /** The last output of its session. */
  readonly output?: string
  readonly paused: boolean
}

/** The beat's word on a running job. */
export interface Carrier {
  readonly supervisor: string
  /** The thread that carries it; 0 while it waits for one. */
  readonly slot: number
  readonly runningMs: number
  readonly silentMs: number
  readonly step?: string
  readonly stepMs?: number
  readonly launching?: true
}

/** What the queue can take now. */
export interface QueueRoom {
  /** Live supervisors that take jobs of the queue. */
  readonly eligible: number
  /** Those with a free slot. */
  readonly free: number
  /** The queue's own limit on running jobs is reached. */
  readonly maxed: boolean
  /** So long its rate limit still holds, milliseconds. */
  readonly limitedMs: number
}

/** What is shown of a job. Times are ISO 8601. */
export interface JobInfo {
  readonly id: string
  readonly queue: string
  readonly name: string
  readonly status: JobStatus
  /** BullMQ's own number. */
  readonly attemptsMade: number
  readonly attemptsMax: number
  readonly resets: number
  readonly lastError?: string
  readonly lastFailureAt?: string
  /** Backing off or scheduled. */
  readonly retryAt?: string
  readonly cooldownUntil?: string
  readonly group?: string
  /** Running: who carries it, in which thread, in which step, and how old its last sign of life is. */
  readonly supervisor?: string
  readonly slot?: number
  readonly step?: string
  readonly heartbeatAgeMs?: number
  readonly fence: number
  /** The last output of its session, at most 4 KiB. */
  readonly output?: string
  /** The reason in a sentence. */
  readonly why: string
  readonly reason: Exclude<ExplainReason, 'not_found'>
  /** Waiting: jobs that are taken before it. */
  readonly ahead?: number
}

export interface NoSuchJob {
  readonly id: string
  readonly queue: string
  readonly reason: 'not_found'
  readonly why: string
  readonly lastError?: undefined
}

export type Explanation = JobInfo | NoSuchJob

export interface ExplainInput {
  readonly queue: string
  readonly id: string
  readonly place: JobPlace
  readonly carrier: Carrier | undefined
  readonly room: QueueRoom
  readonly policy: { readonly max: number; readonly maxResets: number; readonly slowRetryMs: number }
}

export function explain(input: ExplainInput): Explanation {
  const { queue, id, place, carrier, policy } = input
  if (place.state === 'not_found') {
    const why = `queue ${queue} has no job ${JSON.stringify(id)}; completed jobs are kept for a day`
    return { queue, id, reason: 'not_found', why }
  }
  const [reason, why] = verdictOf(input)
  const { name, attemptsMade, resets, fence } = place
  return {
    ...{
      id,
      queue,
      name,
      status: statusOf(place, carrier),
      attemptsMade,
      attemptsMax: place.attemptsMax ?? policy.max,
      resets,
      fence,
    },
    ...present({ lastError: place.lastError, group: place.group, ahead: place.ahead, output: place.output }),
    ...present({ lastFailureAt: iso(place.failedAt), retryAt: iso(place.dueAt), cooldownUntil: iso(place.cooldownUntil) }),
    ...(place.state === 'active' && carrier ? carriedBy(carrier) : {}),
    why,
    reason,
  }
}

function carriedBy({ supervisor, slot, step, silentMs }: Carrier) {
  return { supervisor, ...(slot > 0 ? { slot } : {}), ...present({ step }), heartbeatAgeMs: silentMs }
}

export function statusOf({ state, kind, attemptsMade }: JobPlace, carrier?: Carrier): JobStatus {
  switch (state) {
    case 'active':
      return carrier?.launching ? 'launching' : 'running'
    case 'delayed':
      return attemptsMade === 0 ? 'scheduled' : 'backing-off'
    case 'failed':
      return kind === 'exhausted' || kind === 'cancelled' ? kind : 'failed'
    case 'completed':
      return 'completed'
    default:
      return 'waiting'
  }
}

type Verdict = readonly [JobInfo['reason'], string]

function verdictOf({ place, carrier, room, policy }: ExplainInput): Verdict {
  switch (place.state) {
    case 'failed':
      return failed(place, policy)
    case 'active':
      return carrier
        ? [carrier.launching ? 'launching' : 'running', runningOn(carrier)]
        : ['orphaned', 'in progress, but no live supervisor carries it; it is taken back soon']
    case 'delayed':
      return place.parkedBy ? parked(place, place.parkedBy) : delayedUntil(place)
    case 'waiting-children':
      return ['waiting_for_children', 'waits until its child jobs are done']
    case 'waiting':
      return waiting(place, room)
    default:
      return ['completed', 'completed']
  }
}

const KEPT_NO_REASON = 'no reason was kept'

function failed(place: JobPlace, policy: ExplainInput['policy']): Verdict {
  const { kind, attemptsMade, losses, lastError = KEPT_NO_REASON } = place
  const attempts = counted(attemptsMade, 'attempt')
  switch (kind) {
    case 'exhausted':
      return ['cooldown', `exhausted after ${attempts}: ${lastError}; ${comesBack(place, policy)}`]
    case 'permanent':
      return ['permanent', `failed for good in attempt ${attemptsMade}: ${lastError}; waits for changed settings or a reset`]
    case 'poison':
      return [
        'waits_for_a_person',
        `stopped, since it lost ${counted(losses, 'supervisor or thread', 'supervisors or threads')}, the last one while it ` +
          `ran alone: ${lastError}; mend its handler, then reset it`,
      ]
    case 'cancelled':
      return ['cancelled', place.lastError ?? 'cancelled']
    default:
      return ['failed', `failed after ${attempts}: ${lastError}; reset it to run it again`]
  }
}

function comesBack(place: JobPlace, { maxResets, slowRetryMs }: ExplainInput['policy']): string {
  const { resets, cooldownUntil = 0, now } = place
  const isSlow = resets >= maxResets
  const how = isSlow
    ? `one try every ${span(slowRetryMs)}, since ${maxResets} resets did not help; a reset by hand gives all of them again`
    : `reset ${resets + 1} of ${maxResets}`
  return cooldownUntil <= now
    ? `its cooldown is over and it is put back soon (${how})`
    : `is put back at ${String(iso(cooldownUntil))} (${how})`
}

function runningOn({ supervisor, runningMs, silentMs, step, stepMs, launching }: Carrier): string {
  if (launching) return `its session is started by supervisor ${supervisor} since ${seconds(runningMs)}: ${step ?? 'launch'}`
  const where = step === undefined ? '' : `, in step ${step} for ${seconds(stepMs ?? 0)}`
  return `runs on supervisor ${supervisor} for ${seconds(runningMs)}${where}; last sign of life ${seconds(silentMs)} ago`
}

function parked({ group, now }: JobPlace, { openedAt, failures, nextProbeAt }: OpenBreaker): Verdict {
  const whose = group === undefined ? 'of its queue' : `of group ${group}`
  const probe = nextProbeAt > now ? `the next one goes out at ${String(iso(nextProbeAt))}` : 'one goes out now'
  return [
    'breaker',
    `parked, uncharged, while the breaker ${whose} is open (since ${String(iso(openedAt))}, after ` +
      `${counted(failures, 'failed job')} in a row); it runs when a probe succeeds, and ${probe}`,
  ]
}

function delayedUntil({ dueAt, attemptsMade, lastError }: JobPlace): Verdict {
  const until = String(iso(dueAt ?? 0))
  if (attemptsMade === 0) return ['scheduled', `may run at ${until}`]
  return ['backing_off', `backing off until ${until} after attempt ${attemptsMade}: ${lastError ?? KEPT_NO_REASON}`]
}

function waiting({ paused, ahead = 0 }: JobPlace, { eligible, free, maxed, limitedMs }: QueueRoom): Verdict {
  if (paused) return ['paused', 'waits: the queue is paused']
  if (eligible === 0) return ['no_worker', 'waits: no live supervisor serves the queue']
  const place = ahead === 0 ? 'it is the next to be taken' : `behind ${counted(ahead, 'other job')}`
  if (limitedMs > 0) return ['concurrency', `waits: the queue's rate limit holds for ${seconds(limitedMs)}; ${place}`]
  if (maxed) return ['concurrency', `waits: the queue's own limit on running jobs is reached; ${place}`]
  if (free === 0) return ['concurrency', `waits: every slot of ${counted(eligible, 'supervisor')} is taken; ${place}`]
  return ahead === 0 ? ['next', `waits: ${place}`] : ['behind', `waits ${place}`]
}

/** Without what is not known. */
function present<T extends Record<string, unknown>>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const known = Object.entries(fields).filter(([, value]) => value !== undefined)
  return Object.fromEntries(known) as { [K in keyof T]?: Exclude<T[K], undefined> }
}

/** A time beyond what a date can say (a hand-made delay of years by the million) is shown as the last one that it can. */
const LAST_DATE_MS = 8_640_000_000_000_000

function iso(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(Math.min(ms, LAST_DATE_MS)).toISOString()
}

const counted = (count: number, noun: string, nouns = `${noun}s`): string => `${count} ${count === 1 ? noun : nouns}`
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

/** `6 h`, `90 m`, `20 s`: whole, in the largest unit that says it exactly enough. */
function span(ms: number): string {
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000} h`
  return ms >= 60_000 ? `${Math.round(ms / 60_000)} m` : seconds(ms)
}

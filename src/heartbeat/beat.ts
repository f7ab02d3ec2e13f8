/**
 * What a beat is and when something in it is late. Pure: no clock, no Redis, no thread.
 *
 * A beat is the sentinel's report of one supervisor process: for every subject its progress and the **age** of that
 * progress by the sender's own monotonic clock. Ages travel, times do not, so nobody ever compares two machines'
 * clocks. Thresholds travel in the beat too: the sender and every watchdog apply the same rule to the same numbers,
 * and a changed interval changes the verdict at the next beat.
 *
 * The rule everywhere: exactly at the threshold is fine, one millisecond more is late.
 */

/** The one reason why a subject is stuck. A closed list: log, metric and API show the same word. */
export const CAUSES = [
  'process_dead',
  'loop_blocked',
  'poll_stale',
  'never_polled',
  'lock_late',
  'thread_blocked',
  'job_silent',
  'launch_overdue',
  'no_eligible_worker',
  'queue_not_moving',
  'scheduler_overdue',
  'redis_unreachable',
  'watchdog_blind',
  'watchdog_lost',
] as const
export type Cause = (typeof CAUSES)[number]

export const SUBJECT_KINDS = ['process', 'event_loop', 'loop', 'thread', 'job', 'queue', 'redis', 'watchdog'] as const
export type SubjectKind = (typeof SUBJECT_KINDS)[number]

/** How subjects are named in logs, incidents and the API. */
export const subjectOf = {
  process: (supervisor: string) => `supervisor:${supervisor}`,
  eventLoop: (supervisor: string) => `supervisor:${supervisor}/main`,
  loop: (supervisor: string, loop: string, queue?: string) =>
    `supervisor:${supervisor}/loop:${loop}${queue === undefined ? '' : `:${queue}`}`,
  thread: (supervisor: string, queue: string, number: number) => `supervisor:${supervisor}/thread:${queue}:${number}`,
  job: (queue: string, id: string) => `job:${queue}/${id}`,
  queue: (queue: string) => `queue:${queue}`,
  redis: () => 'redis',
  watchdog: (id: string) => `watchdog:${id}`,
} as const

/** `polling` must make progress; every other state rests on purpose and is never stale. */
export const LOOP_STATES = ['starting', 'polling', 'full', 'limited', 'paused', 'draining', 'stopped'] as const
export type LoopState = (typeof LOOP_STATES)[number]

export interface LoopProgress {
  /** `fetch`, `reconcile`, or the name that a user gave to a loop of their own. */
  readonly loop: string
  /** The queue of a fetch loop. */
  readonly queue?: string
  readonly state: LoopState
  /** Cycles (or calls to BullMQ's backend) begun since the start. */
  readonly cycles: number
  /** Ticks that found a cycle still in flight. */
  readonly skipped: number
  /** True while a cycle, or at least one call, has not come back. */
  readonly inFlight: boolean
  /** What is in flight, or the last that was. */
  readonly phase: string
  /**
   * In flight: age of the oldest call or cycle still out. Otherwise: age of the last end; before any cycle: of the
   * start of the loop. Milliseconds.
   */
  readonly ageMs: number
  /** How long the call in flight may block on purpose (BZPOPMIN), or a rate limit still holds. Staleness counts from there. */
  readonly limitMs: number
  readonly thresholdMs: number
  /** How long after its start a loop may go without a first cycle. */
  readonly graceMs: number
  /** Wall clock of the sender, to show: last start and last end. */
  readonly startedAt?: number
  readonly endedAt?: number
  /** Fetch loops: age of the oldest lock among the running jobs since it was taken or renewed. */
  readonly lockAgeMs?: number
  readonly lockDurationMs?: number
}

export interface ThreadProgress {
  readonly queue: string
  /** 1-based place in its queue's pool. */
  readonly number: number
  /** Grows when the thread in this place is replaced. */
  readonly generation: number
  /** Jobs that it carries; with none it is parked and never judged. */
  readonly jobs: number
  /** Age of the last turn of its event loop, or of the moment it took its first job, whichever is younger. */
  readonly tickAgeMs: number
}

export interface JobProgress {
  readonly queue: string
  readonly id: string
  readonly attempt: number
  readonly fence: number
  /** The thread that carries it; 0 while it waits for one, or runs alone. */
  readonly thread: number
  /** It runs in a process of its own. */
  readonly alone?: true
  /** It runs on the main thread: a job of a watched worker. */
  readonly onMain?: true
  /** That process is being started and has shown no life yet. */
  readonly launching?: true
  /** Since the claim. */
  readonly runningMs: number
  /** Age of the last heartbeat, step or start. */
  readonly silentMs: number
  readonly step?: string
  readonly stepMs?: number
}

export interface QueueSlots {
  readonly queue: string
  readonly slots: number
  readonly busy: number
  /** False while paused here, draining or stopping: it takes nothing. */
  readonly eligible: boolean
  readonly silentAfterMs: number
  /** Queues of sessions: how long a launch may take. */
  readonly launchTimeoutMs?: number
  readonly onStuck: 'report' | 'terminate'
}

export type ProcessState = 'starting' | 'running' | 'draining' | 'stopped'

export interface Beat {
  readonly v: 1
  readonly supervisor: string
  readonly incarnation: string
  readonly seq: number
  readonly group?: string
  readonly host: string
  readonly pid: number
  readonly version: string
  readonly state: ProcessState
  readonly uptimeMs: number
  readonly intervalMs: number
  readonly timeoutMs: number
  /** The main event loop: age of its last turn. */
  readonly main: { readonly ageMs: number; readonly thresholdMs: number }
  readonly threadBlockedMs: number
  /** It can be asked for stack dumps. */
  readonly dumps?: true
  readonly loops: readonly LoopProgress[]
  readonly threads: readonly ThreadProgress[]
  readonly jobs: readonly JobProgress[]
  readonly queues: readonly QueueSlots[]
}

/** A subject that is past its threshold, with all that a STUCK line shows of it. */
export interface Late {
  readonly kind: SubjectKind
  readonly subject: string
  readonly cause: Cause
  readonly ageMs: number
  readonly thresholdMs: number
  readonly queue?: string
  readonly phase?: string
  readonly jobId?: string
  readonly attempt?: number
  readonly step?: string
  readonly stepMs?: number
  /** Threads and jobs: the thread's place and generation, so that the right one is killed. */
  readonly thread?: number
  readonly generation?: number
  /** Jobs: it runs on the main thread. */
  readonly onMain?: true
}

/** One rule for one subject: how far it is from being late, and what it is called once it is. */
interface Judgement {
  readonly remainingMs: number
  readonly late: () => Late
}

/** Everything in the beat that is late now, larger troubles and what they explain alike; the watchdog's diagnosis sorts that out. */
export function lateIn(beat: Beat): Late[] {
  return judgementsOf(beat)
    .filter((judgement) => judgement.remainingMs < 0)
    .map((judgement) => judgement.late())
}

/** Milliseconds until the first subject that is not late yet could become so; Infinity when nothing can. */
export function nextLateInMs(beat: Beat): number {
  let next = Number.POSITIVE_INFINITY
  for (const { remainingMs } of judgementsOf(beat)) {
    if (remainingMs >= 0 && remainingMs < next) next = remainingMs
  }
  return next
}

function judgementsOf(beat: Beat): Judgement[] {
  if (beat.state === 'stopped') return []
  const judgements = [mainLoopJudgement(beat)]
  for (const loop of beat.loops) judgements.push(...loopJudgements(beat, loop))
  for (const thread of beat.threads) {
    if (thread.jobs > 0) judgements.push(threadJudgement(beat, thread))
  }
  const queues = new Map(beat.queues.map((queue) => [queue.queue, queue]))
  for (const job of beat.jobs) judgements.push(jobJudgement(beat, job, queues.get(job.queue)))
  return judgements
}

function mainLoopJudgement(beat: Beat): Judgement {
  const { ageMs, thresholdMs } = beat.main
  return {
    remainingMs: thresholdMs - ageMs,
    late: () => ({
      kind: 'event_loop',
      subject: subjectOf.eventLoop(beat.supervisor),
      cause: 'loop_blocked',
      ageMs,
      thresholdMs,
      ...suspectAmong(beat.jobs.filter((job) => job.onMain)),
    }),
  }
}

function loopJudgements(beat: Beat, loop: LoopProgress): Judgement[] {
  const named = {
    kind: 'loop',
    subject: subjectOf.loop(beat.supervisor, loop.loop, loop.queue),
    ...(loop.queue === undefined ? {} : { queue: loop.queue }),
    phase: phaseOf(loop),
  } as const
  const judgements: Judgement[] = []
  const staleness = loopStaleness(loop)
  if (staleness) {
    judgements.push({ remainingMs: staleness.thresholdMs - staleness.ageMs, late: () => ({ ...named, ...staleness }) })
  }
  const { lockAgeMs, lockDurationMs } = loop
  if (lockAgeMs !== undefined && lockDurationMs !== undefined) {
    judgements.push({
      remainingMs: lockDurationMs - lockAgeMs,
      late: () => ({ ...named, phase: 'extendLocks', cause: 'lock_late', ageMs: lockAgeMs, thresholdMs: lockDurationMs }),
    })
  }
  return judgements
}

/** Whoever reads that it hangs in a call looks for that call's reply: at rest there is none. */
function phaseOf({ inFlight, phase }: LoopProgress): string {
  if (inFlight) return phase
  return phase === '' ? 'rest' : `rest after ${phase}`
}

/**
 * How stale a loop is, or undefined when it rests on purpose. In flight, the age counts from the end of what the call
 * may block for; at rest only a loop that ought to poll is judged.
 */
export function loopStaleness(loop: LoopProgress): { cause: Cause; ageMs: number; thresholdMs: number } | undefined {
  const ageMs = Math.max(0, loop.ageMs - loop.limitMs)
  if (loop.inFlight) return { cause: 'poll_stale', ageMs, thresholdMs: loop.thresholdMs }
  if (loop.state !== 'polling' && loop.state !== 'limited') return undefined
  if (loop.cycles === 0) return { cause: 'never_polled', ageMs: loop.ageMs, thresholdMs: loop.graceMs }
  return { cause: 'poll_stale', ageMs, thresholdMs: loop.thresholdMs }
}

function threadJudgement(beat: Beat, thread: ThreadProgress): Judgement {
  const { queue, number, generation, tickAgeMs } = thread
  return {
    remainingMs: beat.threadBlockedMs - tickAgeMs,
    late: () => ({
      kind: 'thread',
      subject: subjectOf.thread(beat.supervisor, queue, number),
      cause: 'thread_blocked',
      ageMs: tickAgeMs,
      thresholdMs: beat.threadBlockedMs,
      queue,
      thread: number,
      generation,
      ...suspectAmong(beat.jobs.filter((job) => job.queue === queue && job.thread === number)),
    }),
  }
}

/** The job that a blocked thread most likely hangs in: the one that showed life last before the event loop stopped turning. */
function suspectAmong(jobs: readonly JobProgress[]): Partial<Late> {
  let suspect: JobProgress | undefined
  for (const job of jobs) {
    if (!suspect || job.silentMs < suspect.silentMs) suspect = job
  }
  return suspect ? jobFields(suspect) : {}
}

function jobJudgement(beat: Beat, job: JobProgress, queue: QueueSlots | undefined): Judgement {
  const thread = beat.threads.find((candidate) => candidate.queue === job.queue && candidate.number === job.thread)
  const { cause, ageMs, thresholdMs } = jobStaleness(job, queue)
  return {
    remainingMs: thresholdMs - ageMs,
    late: () => ({
      kind: 'job',
      subject: subjectOf.job(job.queue, job.id),
      cause,
      ageMs,
      thresholdMs,
      queue: job.queue,
      thread: job.thread,
      ...(job.onMain ? { onMain: job.onMain } : {}),
      ...(thread ? { generation: thread.generation } : {}),
      ...jobFields(job),
    }),
  }
}

function jobStaleness(job: JobProgress, queue: QueueSlots | undefined): { cause: Cause; ageMs: number; thresholdMs: number } {
  if (job.launching) {
    return { cause: 'launch_overdue', ageMs: job.runningMs, thresholdMs: queue?.launchTimeoutMs ?? Number.POSITIVE_INFINITY }
  }
  return { cause: 'job_silent', ageMs: job.silentMs, thresholdMs: queue?.silentAfterMs ?? Number.POSITIVE_INFINITY }
}

function jobFields(job: JobProgress): Partial<Late> {
  return {
    jobId: job.id,
    attempt: job.attempt,
    ...(job.step === undefined ? {} : { step: job.step, phase: job.launching ? job.step : `step ${job.step}` }),
    ...(job.stepMs === undefined ? {} : { stepMs: job.stepMs }),
  }
}

/**
 * One attempt, top to bottom: take a cell on the board, run the handler in a thread, say how it ended.
 *
 * It owns the attempts that are under way in this supervisor, and nothing in Redis: what becomes of the job is the
 * retry policy's decision and the worker adapter's deed. An attempt ends once: by its own result, or because somebody
 * handed it back or killed its thread; whatever comes later is ignored.
 */
import type { BeatBoard, JobCellRef } from '../heartbeat/beat-board.js'
import { type HandBackReason, type Outcome, revive } from './outcome.js'
import { HAND_BACK_DELAY_MS } from './retry-policy.js'
import type { ThreadReply, ThreadTask } from './thread-protocol.js'

/**
 * A claim whose reply took longer than this is verified before its job runs, since a reaper may have taken the job back
 * meanwhile; whoever disowns a claim waits much longer than this. Milliseconds.
 */
export const LATE_CLAIM_MS = 1000

export interface ClaimedJob {
  readonly id: string
  readonly name: string
  readonly data: unknown
  readonly group: string | undefined
  readonly attempt: number
  readonly fence: number
  /** The lock's token: who may write about this claim. */
  readonly token: string
  /** A suspect: it must run in a process of its own. */
  readonly alone?: boolean
}

/** How a job's thread ended, when it did not answer. */
export type ThreadLoss =
  /** This job was the reason, or one of those that may have been. `ordered`: we ended it ourselves, which proves nothing. */
  | { readonly kind: 'lost'; readonly message: string; readonly ordered: boolean }
  /** It was alone when it happened: it is the reason. */
  | { readonly kind: 'alone'; readonly message: string }
  /** Another job on the same thread was. */
  | { readonly kind: 'neighbour' }
  /** It never began. */
  | { readonly kind: 'handed_back'; readonly reason: HandBackReason }

/** What runs the jobs of one queue: its threads, or processes for one job each. */
export interface Executor {
  /** How long a cancelled job may go on before `kill`, milliseconds. Default: CANCEL_GRACE_MS. */
  readonly graceMs?: number
  /**
   * @param token of the claim: who may write about it
   * @returns the handler's reply; or how its thread was lost
   */
  run(task: ThreadTask, token: string): Promise<ThreadReply | { readonly ok: 'lost'; readonly loss: ThreadLoss }>
  /** Ends the thread that carries this job. The job's `run` then resolves as lost. */
  kill(ref: JobCellRef, reason: string): void
}

export interface RunningAttempt {
  readonly job: ClaimedJob
  readonly ref: JobCellRef
  handBack(reason: HandBackReason): void
  kill(reason: string): void
  /** Asks the handler, through its signal, to end; whoever does not within the grace loses its thread. */
  cancel(): void
}

/** How long a cancelled handler may go on after its signal aborted, milliseconds. */
const CANCEL_GRACE_MS = 5000

export interface AttemptsOptions {
  readonly queue: string
  readonly queueIndex: number
  readonly board: BeatBoard
  readonly executor: Executor
}

export class Attempts {
  readonly #options: AttemptsOptions
  readonly #running = new Map<string, RunningAttempt>()
  readonly #cancelled = new Set<JobCellRef>()
  #whenIdle: (() => void)[] = []

  constructor(options: AttemptsOptions) {
    this.#options = options
  }

  get(jobId: string): RunningAttempt | undefined {
    return this.#running.get(jobId)
  }

  list(): RunningAttempt[] {
    return [...this.#running.values()]
  }

  /** Resolves when no attempt is under way. */
  idle(): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#whenIdle.push(resolve))
  }

  /**
   * The job's place in BullMQ is settled: it is not ours any more, and its cell is free.
   * @param token only if it runs here under this claim; an older run of the same job is another matter
   */
  settled(jobId: string, token?: string): void {
    const attempt = this.#running.get(jobId)
    if (!attempt || (token !== undefined && attempt.job.token !== token)) return
    this.#running.delete(jobId)
    this.#options.board.freeJob(attempt.ref)
    if (this.#running.size > 0) return
    for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  /**
   * Runs one attempt. The job stays listed after it ended, until `settled`: between the handler's end and BullMQ's
   * word for it the job is still ours.
   * @param traceparent of the span that the attempt is, when somebody collects spans
   */
  run(job: ClaimedJob, traceparent?: string): Promise<Outcome> {
    const { board, executor, queue, queueIndex } = this.#options
    const ref = board.claimJob(queueIndex, job.id, job.attempt, job.fence)
    if (!ref) throw new Error(`queue ${queue}: no place on the board for job ${job.id}`)
    return new Promise<Outcome>((resolve, reject) => {
      this.#running.set(job.id, {
        job,
        ref,
        handBack: (reason) => resolve({ kind: 'handed_back', reason }),
        kill: (reason) => executor.kill(ref, reason),
        cancel: () => this.#cancel(job.id, ref),
      })
      const { id, name, data, group, attempt, fence } = job
      const { cell, claim } = ref
      const task = { id, name, queue, data, group, attempt, fence, cell, claim, ...(traceparent ? { traceparent } : {}) }
      executor.run(job.alone ? { ...task, alone: true } : task, job.token).then((reply) => {
        const outcome = outcomeOf(reply)
        if (this.#cancelled.delete(ref)) return resolve(asCancelled(outcome))
        resolve(board.abortReason(ref) === SHUTDOWN ? asHandedBack(outcome) : outcome)
      }, reject)
    })
  }

  #cancel(jobId: string, ref: JobCellRef): void {
    if (this.#cancelled.has(ref)) return
    this.#cancelled.add(ref)
    this.#options.board.abortJob(ref, 'cancelled')
    setTimeout(() => {
      if (this.#running.get(jobId)?.ref === ref && this.#cancelled.has(ref)) this.#options.executor.kill(ref, 'cancelled')
    }, this.#options.executor.graceMs ?? CANCEL_GRACE_MS).unref()
  }
}

const SHUTDOWN = 'the supervisor is shutting down'

/** Told to stop because its supervisor ends, a job that fails now may have failed for that. */
function asHandedBack(outcome: Outcome): Outcome {
  const failed = outcome.kind === 'transient' || outcome.kind === 'killed'
  return failed ? { kind: 'handed_back', reason: 'shutdown' } : outcome
}

/** What a cancelled handler makes of its end does not matter, unless it had done its work by then. */
function asCancelled(outcome: Outcome): Outcome {
  if (outcome.kind === 'success') return outcome
  return { kind: 'cancelled', error: new Error('cancelled while it ran') }
}

function outcomeOf(reply: Awaited<ReturnType<Executor['run']>>): Outcome {
  if (reply.ok === true) return { kind: 'success', result: reply.json === undefined ? undefined : JSON.parse(reply.json) }
  if (reply.ok === false) {
    const { retryAfterMs } = reply.error
    if (retryAfterMs !== undefined)
      return { kind: 'handed_back', reason: 'rate_limited', delayMs: Math.max(retryAfterMs, HAND_BACK_DELAY_MS) }
    return { kind: reply.error.permanent ? 'permanent' : 'transient', error: revive(reply.error) }
  }
  return outcomeOfLoss(reply.loss)
}

function outcomeOfLoss(loss: ThreadLoss): Outcome {
  if (loss.kind === 'neighbour') return { kind: 'handed_back', reason: 'thread_neighbour' }
  if (loss.kind === 'handed_back') return loss
  const error = new Error(loss.message)
  if (loss.kind === 'alone') return { kind: 'killed', error, alone: true }
  return loss.ordered ? { kind: 'killed', error, ordered: true } : { kind: 'killed', error }
}

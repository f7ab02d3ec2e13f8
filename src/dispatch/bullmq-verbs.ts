/**
 * Says the retry policy's decisions in BullMQ's verbs. BullMQ retries or fails a job whose processor throws, by what is
 * thrown and by what the job object says; a job that goes back uncharged is moved first, and then let go of.
 */
import { DelayedError, type Job, RateLimitError, type RedisQueueBackend, UnrecoverableError } from 'bullmq'
import { insist } from './insist.js'
import type { Verdict } from './ledger.js'
import { backoffMs } from './retry-policy.js'
import type { Attempts } from './run-attempt.js'

export interface BullmqVerbsOptions {
  readonly backend: () => RedisQueueBackend
  readonly attempts: Attempts
  readonly ladder: Parameters<typeof backoffMs>[1]
  /** Nobody waits for what is still tried. */
  readonly stopped: () => boolean
  readonly onError: (error: unknown) => void
}

export class BullmqVerbs {
  readonly #options: BullmqVerbsOptions
  /** What the ladder says for a failed job, between our decision and BullMQ's question. */
  readonly #backoffs = new WeakMap<object, number>()

  constructor(options: BullmqVerbsOptions) {
    this.#options = options
  }

  /** BullMQ's question how long a failed job of our backoff type waits. It must not throw: the job would stay active. */
  backoffOf(attemptsMade: number, job: object | undefined): number {
    const decided = job ? this.#backoffs.get(job) : undefined
    return decided ?? backoffMs(attemptsMade, this.#options.ladder, Math.random())
  }

  /** @param verdict undefined: the job is somebody else's by now */
  async apply(job: Job, token: string, verdict: Verdict | undefined): Promise<never> {
    if (!verdict) return this.letGo(job, token)
    const { decision, counters } = verdict
    // BullMQ decides by these, and its copy may be older than the last reset.
    job.attemptsMade = counters.attemptsMade
    job.opts.attempts = counters.attemptsMax
    switch (decision.verb) {
      case 'retry':
        this.#backoffs.set(job, decision.delayMs)
        throw asHandlersError(decision.error)
      case 'exhaust':
        // Exhausted is not failed: such a job is never removed for its failure.
        job.opts.removeOnFail = false
        throw asFinal(decision.error)
      case 'fail':
        throw asFinal(decision.error)
      case 'hand_back':
        return this.handBack(job, token, decision.delayMs, decision.error)
      case 'complete':
        throw new Error('an attempt that failed cannot complete its job')
    }
  }

  /** Back to delayed, uncharged. Whatever BullMQ answers to a second try after a lost reply, the job is not ours then. */
  async handBack(job: Job, token: string, delayMs: number, error?: Error): Promise<never> {
    const { backend, stopped, onError } = this.#options
    // BullMQ's script fails on an empty set of fields.
    const how = { skipAttempt: true, ...(error ? { fieldsToUpdate: { failedReason: error.message } } : {}) }
    const over = (thrown: unknown) => hasReplyCode(thrown) || stopped()
    const move = async () => backend().moveToDelayed(String(job.id), Date.now(), delayMs, token, how)
    // Once it is over the job is somebody else's, or will be.
    await insist(move, { over, onError }).catch(() => undefined)
    return this.letGo(job, token)
  }

  /** BullMQ leaves the job where it is. */
  letGo(job: Job, token: string): never {
    this.#options.attempts.settled(String(job.id), token)
    throw new DelayedError()
  }
}

/** BullMQ's own answer, and no trouble with the store: the job is not where this claim left it. */
function hasReplyCode(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'number'
}

/** An error that BullMQ does not retry. */
function asFinal(error: Error): UnrecoverableError {
  const { message, stack } = asHandlersError(error)
  return Object.assign(new UnrecoverableError(message), { stack })
}

/** Thrown by a processor these are commands to BullMQ, after which it leaves the job where it is: active, for ever. */
const BULLMQ_COMMANDS = ['DelayedError', 'WaitingError', 'WaitingChildrenError']

/** What a handler threw is a failure of its job, whatever it calls itself. */
function asHandlersError(error: Error): Error {
  if (BULLMQ_COMMANDS.includes(error.name)) error.name = 'Error'
  if (error.message === new RateLimitError().message) error.message = `the handler threw ${error.message}`
  return error
}

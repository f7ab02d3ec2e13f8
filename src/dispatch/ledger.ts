/**
 * The ledger of one queue's attempts in this supervisor: may a claimed job start, and what does its end mean? It asks
 * Redis for what all supervisors share (counters, breaker, suspicion), lets the retry policy decide, and notes how a
 * failed job may come back before the job is moved. The moves themselves are the worker adapter's.
 *
 * A job that succeeds costs it no call: what a success means for the breaker is told in bulk.
 */
import { Breakers } from './breaker.js'
import { insist } from './insist.js'
import type { Outcome } from './outcome.js'
import { type Counters, type Decision, decide, exhaust, type FailedKind, parkedFor, type RetryPolicy } from './retry-policy.js'
import type { ClaimedJob } from './run-attempt.js'

export type Claim = Pick<ClaimedJob, 'id' | 'token' | 'fence' | 'group'>

export interface EndedAttempt extends Counters {
  /** This failure opened its group's breaker, as the so-manieth of different jobs; else 0. */
  readonly openedAt: number
}

/** What the ledger needs of the store. */
export interface AttemptRecords {
  /** @returns undefined when the claim is somebody else's by now */
  end(claim: Claim, what: { readonly mayPass: boolean; readonly threadLost: boolean }): Promise<EndedAttempt | undefined>
  /** @returns whether a job of a group whose breaker was open may start, and as what */
  gate(claim: Claim): Promise<'run' | 'probe' | 'park'>
  fail(claim: Claim, kind: FailedKind, cooldownMs: number): Promise<void>
  /** @returns the groups whose breaker that closed */
  worked(groups: readonly string[]): Promise<readonly string[]>
  /** @returns undefined when refused: another claim, or ended already */
  proven(claim: Claim): Promise<{ readonly closed: boolean; readonly attempts: number } | undefined>
  schedulerLosses(scheduler: string): Promise<number>
  clearScheduler(scheduler: string): Promise<void>
}

/** A decision with the counters that it was taken from. */
export interface Verdict {
  readonly decision: Decision
  readonly counters: Counters
}

/** What happened that a person may want to read of. */
export interface LedgerEvents {
  exhausted(job: Claim, cooldownMs: number): void
  poison(job: Claim, message: string): void
  breakerOpened(group: string, failures: number): void
  breakerClosed(group: string): void
  reset(job: Claim, attempts: number): void
  error(error: unknown): void
}

export interface LedgerOptions {
  readonly records: AttemptRecords
  readonly policy: RetryPolicy
  readonly events: LedgerEvents
}

/** A job that cost so many supervisors or threads is suspected, and runs alone (DESIGN: "three times"). */
export const SUSPECT_AFTER_LOSSES = 3

export class Ledger {
  readonly breakers: Breakers
  readonly #options: LedgerOptions
  #closed = false

  constructor(options: LedgerOptions) {
    this.#options = options
    const { records, events } = options
    this.breakers = new Breakers({
      worked: (groups) => records.worked(groups),
      onClosed: (group) => events.breakerClosed(group),
      onError: (error) => events.error(error),
    })
  }

  /** Nothing is asked any more; what is still being asked gives up. */
  async close(): Promise<void> {
    await this.breakers.tell()
    this.#closed = true
  }

  /** Only to be asked when `breakers.isOpen(group)`. @returns undefined when it may start */
  async admit(claim: Claim): Promise<Extract<Decision, { verb: 'hand_back' }> | undefined> {
    const { records, policy } = this.#options
    const answer = await this.#insist(() => records.gate(claim))
    if (answer === 'park') return { verb: 'hand_back', delayMs: parkedFor(policy, Math.random()), reason: 'breaker_open' }
    if (answer === 'run') this.breakers.closed(claim.group ?? '')
    return undefined
  }

  /** @returns what becomes of a job whose attempt did not succeed; undefined: it is somebody else's by now */
  async settle(claim: Claim, outcome: Exclude<Outcome, { kind: 'success' }>): Promise<Verdict | undefined> {
    const { records, policy, events } = this.#options
    const threadLost = outcome.kind === 'killed' && outcome.ordered !== true
    const mayPass = outcome.kind === 'transient' || outcome.kind === 'killed'
    const ended = await this.#end(claim, { mayPass, threadLost })
    if (!ended) return undefined
    const decision = decide(outcome, ended, policy, Math.random())
    if (decision.verb === 'fail') {
      await this.#insist(() => records.fail(claim, decision.reason, 0))
      if (decision.reason === 'poison') events.poison(claim, decision.error.message)
    }
    if (decision.verb === 'exhaust') await this.#exhausted(claim, decision.cooldownMs)
    return { decision, counters: ended }
  }

  /** BullMQ fails the job by itself: a failure that was deferred when its last owner was lost, or its cancellation. */
  async deferred(claim: Claim, error: Error): Promise<FailedKind | undefined> {
    const { records, policy } = this.#options
    const ended = await this.#end(claim, { mayPass: false, threadLost: false })
    if (!ended) return undefined
    if (ended.cancelled !== undefined) {
      await this.#insist(() => records.fail(claim, 'cancelled', 0))
      return 'cancelled'
    }
    await this.#exhausted(claim, exhaust(error, ended.resets, policy).cooldownMs)
    return 'exhausted'
  }

  /** The attempt was heard of late enough to prove that the dispatch works. @returns whether that was taken */
  async proven(claim: Claim): Promise<boolean> {
    const { records, events } = this.#options
    const proof = await records.proven(claim)
    if (!proof) return false
    if (proof.closed) {
      this.breakers.closed(claim.group ?? '')
      events.breakerClosed(claim.group ?? '')
    }
    if (proof.attempts > 0) events.reset(claim, proof.attempts)
    return true
  }

  async isSuspect(losses: number, scheduler: string | undefined): Promise<boolean> {
    if (losses >= SUSPECT_AFTER_LOSSES) return true
    if (scheduler === undefined) return false
    return (await this.#insist(() => this.#options.records.schedulerLosses(scheduler))) >= SUSPECT_AFTER_LOSSES
  }

  /** A suspect ran alone and succeeded: its scheduler is innocent. */
  async cleared(scheduler: string): Promise<void> {
    await this.#insist(() => this.#options.records.clearScheduler(scheduler))
  }

  async #end(claim: Claim, what: { mayPass: boolean; threadLost: boolean }): Promise<EndedAttempt | undefined> {
    // What worked before it is counted before it.
    await this.breakers.tell()
    const ended = await this.#insist(() => this.#options.records.end(claim, what))
    if (!ended) return undefined
    const group = claim.group ?? ''
    if (!ended.charged || ended.openedAt > 0) this.breakers.opened(group)
    if (ended.openedAt > 0) this.#options.events.breakerOpened(group, ended.openedAt)
    return ended
  }

  async #exhausted(claim: Claim, cooldownMs: number): Promise<void> {
    await this.#insist(() => this.#options.records.fail(claim, 'exhausted', cooldownMs))
    this.#options.events.exhausted(claim, cooldownMs)
  }

  /** Every answer here decides over a job, and every call may be repeated: a store that is away is waited for. */
  #insist<T>(call: () => Promise<T>): Promise<T> {
    return insist(call, { over: () => this.#closed, onError: (error) => this.#options.events.error(error) })
  }
}

/**
 * Decides what becomes of a job after an attempt. Pure: from how the attempt ended and what Redis counted in that
 * moment it returns a decision with its reason, and only `bullmq-worker` turns that into BullMQ's verbs.
 */
import type { AttemptsConfig } from '../platform/config.js'
import type { Outcome } from './outcome.js'

/** What Redis knew of the job in the moment its attempt ended. */
export interface Counters {
  /** BullMQ's attemptsMade, before this attempt is charged. */
  readonly attemptsMade: number
  readonly attemptsMax: number
  /** Cooldown and heartbeat resets since the last full one. */
  readonly resets: number
  /** False while the breaker of its group is open. */
  readonly charged: boolean
  /** Somebody asked for its end, and why. */
  readonly cancelled?: string
}

/** How a job in BullMQ's failed set may come back: by itself, or by changed settings or a hand, or not. */
export type FailedKind = 'exhausted' | 'permanent' | 'poison' | 'cancelled'

export type Decision =
  | { readonly verb: 'complete'; readonly result: unknown }
  /** One rung further up the ladder. */
  | { readonly verb: 'retry'; readonly error: Error; readonly delayMs: number; readonly reason: 'may_pass' | 'thread_lost' }
  /** Out of attempts: comes back after its cooldown. */
  | {
      readonly verb: 'exhaust'
      readonly error: Error
      readonly cooldownMs: number
      readonly reason: 'attempts_used_up' | 'resets_used_up'
    }
  | { readonly verb: 'fail'; readonly error: Error; readonly reason: Exclude<FailedKind, 'exhausted'> }
  /** Uncharged, to delayed. With an error when it failed while its group's breaker was open. */
  | { readonly verb: 'hand_back'; readonly delayMs: number; readonly reason: HandBackWhy; readonly error?: Error }

export type HandBackWhy = Extract<Outcome, { kind: 'handed_back' }>['reason'] | 'breaker_open'

export type RetryPolicy = Pick<AttemptsConfig, 'backoffMs' | 'jitter' | 'cooldownMs' | 'maxResets' | 'slowRetryMs'> & {
  /** How long a job lies at least that met an open breaker, milliseconds, unless the breaker closes before. */
  readonly parkMs: number
}

/**
 * A job handed back waits this long, so that it does not come straight back to the supervisor that just gave it away
 * and spin at the head of the queue.
 */
export const HAND_BACK_DELAY_MS = 1000

/** @param random 0 (inclusive) to 1 (exclusive), for the jitter */
export function decide(outcome: Outcome, counters: Counters, policy: RetryPolicy, random: number): Decision {
  if (outcome.kind === 'success') return { verb: 'complete', result: outcome.result }
  if (counters.cancelled !== undefined) return { verb: 'fail', error: new Error(counters.cancelled), reason: 'cancelled' }
  switch (outcome.kind) {
    case 'cancelled':
      return { verb: 'fail', error: outcome.error, reason: 'cancelled' }
    case 'permanent':
      return { verb: 'fail', error: outcome.error, reason: 'permanent' }
    case 'handed_back':
      return { verb: 'hand_back', delayMs: outcome.delayMs ?? HAND_BACK_DELAY_MS, reason: outcome.reason }
    case 'killed':
      if (outcome.alone) return { verb: 'fail', error: outcome.error, reason: 'poison' }
      return afterFailure(outcome.error, 'thread_lost', counters, policy, random)
    case 'transient':
      return afterFailure(outcome.error, 'may_pass', counters, policy, random)
  }
}

function afterFailure(
  error: Error,
  reason: 'may_pass' | 'thread_lost',
  counters: Counters,
  policy: RetryPolicy,
  random: number,
): Decision {
  if (!counters.charged) return { verb: 'hand_back', delayMs: parkedFor(policy, random), reason: 'breaker_open', error }
  const made = counters.attemptsMade + 1
  if (made >= counters.attemptsMax) return exhaust(error, counters.resets, policy)
  return { verb: 'retry', error, delayMs: backoffMs(made, policy, random), reason }
}

/**
 * How long a job is parked whose group's breaker is open: far beyond the release that follows the closing, and never
 * all jobs to the same moment, since what comes back by itself comes unpaced.
 * @param random 0 (inclusive) to 1 (exclusive)
 */
export function parkedFor({ parkMs }: Pick<RetryPolicy, 'parkMs'>, random: number): number {
  return Math.round(parkMs * (1 + random))
}

/** @param resets cooldown and heartbeat resets since the last full one */
export function exhaust(error: Error, resets: number, policy: RetryPolicy): Extract<Decision, { verb: 'exhaust' }> {
  if (resets < policy.maxResets) return { verb: 'exhaust', error, cooldownMs: policy.cooldownMs, reason: 'attempts_used_up' }
  return { verb: 'exhaust', error, cooldownMs: policy.slowRetryMs, reason: 'resets_used_up' }
}

/**
 * The wait after a failed attempt: the ladder's rung, the last rung for all later ones, ± jitter.
 * @param attemptsMade attempts used up, this one included; 1 after the first failure
 * @param random 0 (inclusive) to 1 (exclusive)
 * @returns whole milliseconds, at least 1: BullMQ takes 0 for "at the head of the queue, at once"
 */
export function backoffMs(attemptsMade: number, policy: Pick<AttemptsConfig, 'backoffMs' | 'jitter'>, random: number): number {
  const rung = policy.backoffMs[Math.min(Math.max(attemptsMade, 1), policy.backoffMs.length) - 1] ?? 0
  const spread = 1 - policy.jitter + 2 * policy.jitter * random
  return Math.max(1, Math.round(rung * spread))
}

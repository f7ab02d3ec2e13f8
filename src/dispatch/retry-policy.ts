/**
 * Decides what becomes of a job after an attempt. Pure: it returns a decision with its reason, and only
 * `bullmq-worker` turns that into BullMQ's verbs.
 */
import type { AttemptsConfig } from '../platform/config.js'
import type { Outcome } from './outcome.js'

export type Decision =
  | { readonly verb: 'complete'; readonly result: unknown }
  | { readonly verb: 'retry'; readonly error: Error; readonly reason: 'may_pass' | 'thread_lost' }
  | { readonly verb: 'fail'; readonly error: Error; readonly reason: 'permanent' }
  | { readonly verb: 'hand_back'; readonly delayMs: number; readonly reason: string }

/**
 * A job handed back waits this long, so that it does not come straight back to the supervisor that just gave it away
 * and spin at the head of the queue.
 */
export const HAND_BACK_DELAY_MS = 1000

export function decide(outcome: Outcome): Decision {
  switch (outcome.kind) {
    case 'success':
      return { verb: 'complete', result: outcome.result }
    case 'transient':
      return { verb: 'retry', error: outcome.error, reason: 'may_pass' }
    case 'killed':
      return { verb: 'retry', error: outcome.error, reason: 'thread_lost' }
    case 'permanent':
      return { verb: 'fail', error: outcome.error, reason: 'permanent' }
    case 'handed_back':
      return { verb: 'hand_back', delayMs: HAND_BACK_DELAY_MS, reason: outcome.reason }
  }
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

/**
 * What a reset is, and what counts as other settings. Pure. A reset sets the attempts of a job to 0 and puts it back; the
 * Lua beside BullMQ's scripts does it, so that the job, the indexes and the pace change in one step.
 *
 * | by | when | counted |
 * | --- | --- | --- |
 * | cooldown | the cooldown of an exhausted job is over | yes |
 * | heartbeat | an attempt lived past provenAfterMs: the dispatch works | yes |
 * | restart | a supervisor of the group beats again after a process_dead there | no |
 * | breaker | the breaker of the group closed | no |
 * | settings | the queue's handler or config changed: frees what failed for good, too | no |
 * | hand | a person | no |
 *
 * The counted ones are bounded: after maxResets of them without a success or an uncounted one, a job gets one try each
 * slowRetryMs. It is never dead for good, and never busy for nothing.
 */
import { createHash } from 'node:crypto'
import { UserError } from '../kernel/errors.js'
import type { QueueConfig } from '../platform/config.js'

export type ResetBy = 'cooldown' | 'heartbeat' | 'restart' | 'breaker' | 'settings' | 'hand'

export const RESETS_BY: readonly ResetBy[] = ['cooldown', 'heartbeat', 'restart', 'breaker', 'settings', 'hand']

/** A bulk reset that the reconcile loop works off at the paced rate. */
export interface Campaign {
  readonly id: string
  readonly by: ResetBy
  /** Only jobs of this group, '' for those without one. Undefined: all. */
  readonly group?: string
  /** Only jobs that failed up to then, Redis ms: what fails meanwhile is another trouble. */
  readonly before: number
  /** Those that failed for good, too. */
  readonly permanent?: boolean
  readonly actor: string
  readonly reason?: string
  /** Jobs parked for the group's breaker go first. */
  readonly parked?: boolean
  /** How far it has come. */
  readonly cursor: string
}

/** Reasons are kept with every job that they are given for. */
export const MAX_REASON = 500

/** @throws UserError INPUT_INVALID */
export function checkReason(reason: string | undefined): void {
  if (reason === undefined || reason.length <= MAX_REASON) return
  throw new UserError('INPUT_INVALID', `reason: has ${reason.length} characters; give at most ${MAX_REASON}`)
}

/** What of a queue's config decides over the fate of a job. How many run at once, where and how soon decides nothing. */
const DECISIVE = ['attempts', 'silentAfterMs', 'launchTimeoutMs', 'onStuck', 'lockDurationMs', 'orphans'] as const

/**
 * Tells whether a job that failed for good might do better now: other code, or another policy. The same on every host:
 * neither the handler's path nor what defaults to the size of a machine is in it.
 * @param handler the content of the handler's file
 */
export function settingsFingerprint(
  config: Pick<QueueConfig, (typeof DECISIVE)[number]>,
  handler: string | Uint8Array,
): string {
  const decisive = JSON.stringify(DECISIVE.map((key) => sorted(config[key])))
  return createHash('sha256').update(decisive).update('\n').update(handler).digest('hex').slice(0, 16)
}

/** Keys in one order, whatever order they were written in. */
function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
}

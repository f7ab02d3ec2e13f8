/** Resets in Redis: one job, or many at the queue's pace. One Lua call each; the scripts say what happens in it. */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { ORDER_CAMPAIGN, START_RESTARTS, WORK_CAMPAIGN } from '../dispatch/bullmq-campaign-scripts.js'
import { PROMOTE_PROBES, RELEASE_DUE, RESET_JOB } from '../dispatch/bullmq-reset-scripts.js'
import { SWEEP } from '../dispatch/bullmq-sweep-script.js'
import type { AttemptsConfig } from '../platform/config.js'
import type { QueueKeys } from '../platform/redis-keys.js'
import type { RedisReply } from '../platform/redis-script.js'
import { type Campaign, checkReason, RESETS_BY, type ResetBy } from './reset-policy.js'
import type { SweepCursors, SweptPage } from './sweep-plan.js'

export interface ResetOrder {
  readonly id: string
  readonly by: ResetBy
  readonly actor: string
  /** At most MAX_REASON characters. */
  readonly reason?: string
  /** The queue's release.perSecond. */
  readonly perSecond: number
}

export type ResetAnswer =
  | { readonly outcome: 'reset'; readonly attemptsBefore: number; readonly runsInMs: number }
  /** fresh: it waits with no attempt used; there is nothing to reset. */
  | { readonly outcome: 'unknown' | 'running' | 'completed' | 'fresh' | 'waiting_for_children' }

/** How fast jobs of a queue go back, and how far ahead of now a batch may plan. */
export interface Pace {
  readonly perSecond: number
  /** Milliseconds: somewhat more than the time to the next batch, so that the flow does not break off. */
  readonly aheadMs: number
}

/** What the automatic resets of a queue go by. */
export interface ResetRules extends Pace {
  /** Who resets: `supervisor#incarnation`. */
  readonly actor: string
  readonly attempts: Pick<AttemptsConfig, 'max' | 'maxResets' | 'cooldownMs' | 'slowRetryMs'>
  /** Fingerprint of the queue's settings. */
  readonly settings: string
}

/** How one page of a bulk reset went. `held`: the pace lets no more go now. */
export interface CampaignPage {
  readonly state: 'idle' | 'held' | 'more'
  readonly by: ResetBy | undefined
  readonly reset: number
}

/** Jobs released, and entries of a bulk reset looked at, in one call: some milliseconds, in which Redis serves nobody else. */
const RELEASED_AT_ONCE = 200
const CAMPAIGN_PAGE = 200

/**
 * Resets one job, wherever it is, unless it runs. A job in the failed set goes back at the next free moment of the pace.
 * @throws UserError INPUT_INVALID
 */
export async function resetJob(redis: Redis, keys: QueueKeys, order: ResetOrder): Promise<ResetAnswer> {
  checkReason(order.reason)
  const { id, by, actor, reason = '', perSecond } = order
  const reply = await RESET_JOB.run(redis, [keys.root], [perSecond, 0, id, by, actor, reason])
  const [outcome, attemptsBefore, runsInMs] = reply as [ResetAnswer['outcome'], number, number]
  return outcome === 'reset' ? { outcome, attemptsBefore, runsInMs } : { outcome }
}

/**
 * Writes a bulk reset, which whoever reconciles the queue works off at its pace.
 * @returns how many exhausted (and permanently failed) jobs the queue holds now that it will look at
 * @throws UserError INPUT_INVALID
 */
export async function orderBulkReset(
  redis: Redis,
  keys: QueueKeys,
  order: { by: ResetBy; group?: string; permanent?: boolean; actor: string; reason?: string },
): Promise<{ readonly jobs: number }> {
  checkReason(order.reason)
  const campaign: Omit<Campaign, 'before'> = { ...order, id: randomUUID(), cursor: '0' }
  return { jobs: Number(await ORDER_CAMPAIGN.run(redis, [keys.root], [JSON.stringify(campaign)])) }
}

/** Puts exhausted jobs back whose cooldown is over. */
export async function releaseDue(
  redis: Redis,
  keys: QueueKeys,
  { perSecond, aheadMs, actor, attempts }: ResetRules,
): Promise<{ readonly reset: number; readonly more: boolean }> {
  const args = [perSecond, aheadMs, actor, attempts.maxResets, attempts.max, RELEASED_AT_ONCE]
  const [reset, more] = (await RELEASE_DUE.run(redis, [keys.root], args)) as [number, number]
  return { reset, more: more === 1 }
}

/**
 * Works off one page of the oldest bulk reset of the queue.
 * @throws Error when that reset cannot be read; it is dropped, and the next one comes
 */
export async function workCampaign(redis: Redis, keys: QueueKeys, { perSecond, aheadMs }: Pace): Promise<CampaignPage> {
  const reply = await WORK_CAMPAIGN.run(redis, [keys.root], [perSecond, aheadMs, CAMPAIGN_PAGE])
  const [state, by, reset] = reply as [CampaignPage['state'] | 'broken', string, number]
  if (state === 'broken') throw new Error(`a bulk reset in ${keys.campaigns} could not be read and was dropped`)
  return { state, by: RESETS_BY.find((known) => known === by), reset }
}

/**
 * Orders the resets that follow a restart, once for each, whoever asks.
 * @param restarts group ('' for none) → number of its last restart
 */
export async function startRestarts(
  redis: Redis,
  keys: QueueKeys,
  actor: string,
  restarts: ReadonlyMap<string, number>,
): Promise<number> {
  if (restarts.size === 0) return 0
  return Number(await START_RESTARTS.run(redis, [keys.root], [actor, ...[...restarts].flat()]))
}

/** Looks through one page of the failed jobs and of both indexes. */
export async function sweepPage(
  redis: Redis,
  keys: QueueKeys,
  rules: ResetRules,
  { failed, exhausted, permanent }: SweepCursors,
  size: number,
): Promise<SweptPage> {
  const { perSecond, aheadMs, actor, attempts, settings } = rules
  const limits = [attempts.cooldownMs, attempts.slowRetryMs, attempts.maxResets, attempts.max]
  const args = [perSecond, aheadMs, actor, size, failed, exhausted, permanent, settings, ...limits]
  const reply = (await SWEEP.run(redis, [keys.root], args)) as RedisReply[]
  return {
    cursors: { failed: String(reply[0]), exhausted: String(reply[1]), permanent: String(reply[2]) },
    held: reply[3] === 1,
    current: reply[4] === settings,
    reset: Number(reply[5]),
  }
}

/** Calls a parked job for each open breaker whose next probe is due. @returns how many */
export async function promoteProbes(redis: Redis, keys: QueueKeys, probeMs: number): Promise<number> {
  return Number(await PROMOTE_PROBES.run(redis, [keys.root], [probeMs]))
}

/** What Redis counts of attempts, as the ledger needs it. One Lua call each; the scripts say what happens in it. */
import type { Redis } from 'ioredis'
import type { QueueKeys } from '../platform/redis-keys.js'
import { END_ATTEMPT, FAIL, GATE, PROVEN, WORKED } from './bullmq-scripts.js'
import type { AttemptRecords } from './ledger.js'

export interface RedisAttemptsOptions {
  readonly redis: () => Promise<Redis>
  readonly keys: QueueKeys
  /** Who writes: `supervisor#incarnation`. */
  readonly owner: string
  /** Attempts of a job that names none. */
  readonly attemptsMax: number
  readonly maxResets: number
  readonly breaker: { readonly failures: number; readonly probeMs: number }
  /** Fingerprint of the queue's settings. */
  readonly settings: string
}

export function redisAttempts(options: RedisAttemptsOptions): AttemptRecords {
  const { keys, owner, attemptsMax, maxResets, breaker, settings } = options
  const base = [keys.root]
  return {
    async end({ id, token, fence, group = '' }, { mayPass, threadLost }) {
      const args = [
        id,
        token,
        fence,
        group,
        mayPass ? 1 : 0,
        threadLost ? 1 : 0,
        breaker.failures,
        breaker.probeMs,
        attemptsMax,
      ]
      const reply = (await END_ATTEMPT.run(await options.redis(), base, args)) as (number | string | null)[]
      if (reply.length === 0) return undefined
      const [made, max, resets, charged, opened, cancelled] = reply
      return {
        attemptsMade: Number(made),
        attemptsMax: Number(max),
        resets: Number(resets),
        charged: charged === 1,
        openedAt: Number(opened),
        ...(typeof cancelled === 'string' ? { cancelled } : {}),
      }
    },
    async gate({ id, fence, group = '' }) {
      const reply = await GATE.run(await options.redis(), base, [id, fence, group, breaker.probeMs])
      return reply as 'run' | 'probe' | 'park'
    },
    async fail({ id, fence, group = '' }, kind, cooldownMs) {
      await FAIL.run(await options.redis(), base, [id, fence, kind, cooldownMs, group, settings])
    },
    async worked(groups) {
      return (await WORKED.run(await options.redis(), base, [owner, ...groups])) as string[]
    },
    async proven({ id, token, fence, group = '' }) {
      const reply = await PROVEN.run(await options.redis(), base, [id, token, fence, group, maxResets, owner])
      const [closed, attempts] = reply as number[]
      return closed === undefined ? undefined : { closed: closed === 1, attempts: attempts ?? 0 }
    },
    async schedulerLosses(scheduler) {
      return Number((await (await options.redis()).hget(keys.losses, scheduler)) ?? 0)
    },
    async clearScheduler(scheduler) {
      await (await options.redis()).hdel(keys.losses, scheduler)
    },
  }
}

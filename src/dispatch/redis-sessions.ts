/** The records of sessions in Redis, as launches and the clean-up after crashes need them. One Lua call each. */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { messageOf } from '../kernel/errors.js'
import { LaunchError, type SessionRecord } from '../launch/session.js'
import type { GhostRecords, SessionClaim, SessionRecords } from '../launch/session-records.js'
import { type QueueKeys, queueKeys } from '../platform/redis-keys.js'
import {
  ADOPT_SESSION,
  CLOSE_SESSION,
  HOLDS,
  KEEP_OUTPUT,
  OPEN_SESSION,
  SESSION_TAKEN,
  TAKE_OVER_SESSION,
  UPDATE_SESSION,
} from './bullmq-session-scripts.js'

export interface RedisSessionsOptions {
  readonly redis: Redis
  readonly bullPrefix: string
  readonly host: string
  /** `supervisor#incarnation`. */
  readonly owner: string
  /** How long the lock of an adopted attempt lives until it is renewed, milliseconds. */
  readonly lockDurationMs: number
  readonly onUnreadable: (queue: string, job: string, why: string) => void
}

/** Records of one queue. */
export function redisSessionRecords(options: RedisSessionsOptions, queue: string): SessionRecords {
  const { redis, bullPrefix, host } = options
  const keys = queueKeys(bullPrefix, queue)
  const both = [keys.root, keys.sessions(host)]
  const claimed = ({ id, token, fence }: SessionClaim) => [id, token, fence]
  return {
    async open(claim, record) {
      const reply = await OPEN_SESSION.run(redis, both, [...claimed(claim), JSON.stringify(record)])
      if (typeof reply === 'string') return inTheWay(reply, keys.sessions(host), claim.id)
      return reply === 1 ? 'opened' : 'not_ours'
    },
    async update(claim, record) {
      return (await UPDATE_SESSION.run(redis, both, [...claimed(claim), JSON.stringify(record)])) === 1
    },
    async taken({ job, fence, owner }) {
      return (await SESSION_TAKEN.run(redis, both, [job, fence, owner])) === 1
    },
    close: (record) => closeRecord(redis, keys, host, record),
    async holds(claim) {
      return (await HOLDS.run(redis, [keys.root], claimed(claim))) === 1
    },
    async output({ id, fence }, text) {
      await KEEP_OUTPUT.run(redis, [keys.root], [id, fence, text])
    },
  }
}

/** Records of all queues on this host, for those that nobody owns any more. */
export function redisGhostRecords(options: RedisSessionsOptions): GhostRecords {
  const { redis, bullPrefix, host, owner, lockDurationMs, onUnreadable } = options
  const bothOf = (queue: string) => {
    const keys = queueKeys(bullPrefix, queue)
    return [keys.root, keys.sessions(host)]
  }
  return {
    async list(queue) {
      const all = await redis.hgetall(queueKeys(bullPrefix, queue).sessions(host))
      return Object.entries(all).flatMap(([job, json]) => {
        try {
          return [parseRecord(json)]
        } catch (error) {
          onUnreadable(queue, job, messageOf(error))
          return []
        }
      })
    },
    async takeOver({ queue, job, fence, owner: before }) {
      return (await TAKE_OVER_SESSION.run(redis, bothOf(queue), [job, fence, before, owner])) === 1
    },
    async adopt({ queue, job, fence, owner: before }) {
      const token = `${randomUUID()}:0`
      const args = [job, fence, before, owner, token, lockDurationMs]
      return (await ADOPT_SESSION.run(redis, bothOf(queue), args)) === 1 ? token : undefined
    },
    close: (record) => closeRecord(redis, queueKeys(bullPrefix, record.queue), host, record),
  }
}

async function closeRecord(redis: Redis, keys: QueueKeys, host: string, { job, fence, owner }: SessionRecord): Promise<void> {
  await CLOSE_SESSION.run(redis, [keys.root, keys.sessions(host)], [job, fence, owner])
}

/** @throws LaunchError when it cannot be read: nobody knows whether that session still runs, so no other is started */
function inTheWay(json: string, key: string, job: string): SessionRecord {
  try {
    return parseRecord(json)
  } catch (error) {
    throw new LaunchError(
      `the record of an earlier session of this job cannot be read (${messageOf(error)}); end that session, then remove it ` +
        `with HDEL ${key} ${job}`,
      { cause: error },
    )
  }
}

/** @throws when it is not the JSON of a record: one of another version, or garbled */
function parseRecord(json: string): SessionRecord {
  const record = JSON.parse(json) as Partial<SessionRecord> | null
  const whole =
    typeof record?.queue === 'string' &&
    typeof record.job === 'string' &&
    typeof record.fence === 'number' &&
    typeof record.owner === 'string' &&
    typeof record.folder === 'string' &&
    typeof record.workspace?.path === 'string'
  if (!whole) throw new Error('not the record of a session')
  return record as SessionRecord
}

/** The audit of what a person changes in a queue where no other script writes it in the same step. */
import type { Redis } from 'ioredis'
import { KEPT_AUDIT } from '../dispatch/bullmq-scripts.js'
import type { QueueKeys } from '../platform/redis-keys.js'
import { LUA_NOW, redisScript } from '../platform/redis-script.js'

const AUDIT = redisScript(`${LUA_NOW}
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'at', now, 'action', ARGV[2], 'jobId', ARGV[3], 'by', ARGV[4],
  'actor', ARGV[5], 'reason', ARGV[6], 'group', '', 'attempts', 0)
return 1
`)

export interface AuditEntry {
  readonly action: string
  /** `hand`: through our own orders. */
  readonly by: 'hand' | 'bull-board'
  readonly actor: string
  readonly jobId?: string
  readonly reason?: string
}

export async function writeAudit(
  redis: Redis,
  { audit }: Pick<QueueKeys, 'audit'>,
  { action, by, actor, jobId = '', reason = '' }: AuditEntry,
): Promise<void> {
  await AUDIT.run(redis, [audit], [KEPT_AUDIT, action, jobId, by, actor, reason])
}

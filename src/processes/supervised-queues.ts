/** Which queues a supervisor serves, and where its Redis is. */
import { UserError } from '../kernel/errors.js'
import type { Config, QueueConfig } from '../platform/config.js'

export type RunnableQueue = readonly [name: string, config: QueueConfig]

/** @throws UserError REDIS_MISSING */
export function requireRedisUrl(config: Config): string {
  if (config.redis.url !== undefined) return config.redis.url
  throw new UserError(
    'REDIS_MISSING',
    'redis.url: no Redis is named; set REDIS_URL or --redis, or use `unstuck up`, which brings one',
  )
}

/**
 * @param queues only these of the configured ones. Default: all
 * @throws UserError QUEUE_UNKNOWN, CONFIG_INVALID
 */
export function runnableQueues(config: Config, queues: readonly string[] | undefined): RunnableQueue[] {
  const wanted = queues ?? Object.keys(config.queues)
  if (wanted.length === 0)
    throw new UserError('CONFIG_INVALID', 'queues: none is configured; add queues.NAME.handler to the config file')
  return wanted.map((name) => {
    const queue = config.queues[name]
    const known = Object.keys(config.queues).join(', ') || 'none'
    if (!queue)
      throw new UserError(
        'QUEUE_UNKNOWN',
        `queue "${name}": not in the config (configured: ${known}); add queues.${name} or correct --queue`,
      )
    return [name, queue] as const
  })
}

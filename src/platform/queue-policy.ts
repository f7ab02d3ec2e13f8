import type { Config, QueueConfig } from './config.js'
import { parseConfig } from './config-parse.js'

/** The policy of a queue; the defaults for one that is in no config, as on a producer that has none. */
export function policyOf(config: Config, queue: string): Pick<QueueConfig, 'attempts' | 'release'> {
  const own = config.queues[queue]
  if (own) return own
  const { queues } = parseConfig({ queues: { any: { handler: 'any' } } }, { baseDir: '/', handlersMustExist: false })
  const policy = queues['any']
  if (!policy) throw new Error('no default policy')
  return policy
}

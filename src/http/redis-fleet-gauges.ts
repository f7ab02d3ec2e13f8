/** What a scrape shows of the fleet, read from Redis for each anew: the lags of loops instead of whole beats. */
import type { Redis } from 'ioredis'
import { readLags } from '../heartbeat/redis-beat-lags.js'
import { within } from '../kernel/within.js'
import { fleetKeys } from '../platform/redis-keys.js'
import type { FleetGauges } from '../watchdog/prom-watchdog-metrics.js'
import { redisFleetSource } from './redis-fleet-source.js'

/** Below the 2 s that are promised, with room for the answer itself. */
const READ_WITHIN_MS = 1500

/**
 * @param queues the configured ones: shown also before anybody served them
 * @returns a reader; it gives undefined when the store does not answer in time. Who asks meanwhile shares the reading
 */
export function redisFleetGauges(
  redis: Redis,
  config: { readonly prefix: string; readonly bullPrefix: string },
  queues: readonly string[],
): () => Promise<FleetGauges | undefined> {
  const keys = fleetKeys(config.prefix)
  const source = redisFleetSource(redis, config)
  const read = async (): Promise<FleetGauges> => {
    const names = await source.names()
    const [supervisors, facts, incidents] = await Promise.all([
      readLags(redis, keys, names.supervisors),
      source.readQueues([...new Set([...queues, ...names.queues])].sort()),
      source.listOpen(),
    ])
    return { supervisors, queues: facts, incidents }
  }
  let reading: Promise<FleetGauges> | undefined
  return async () => {
    reading ??= read().finally(() => {
      reading = undefined
    })
    const gauges = await within(reading, READ_WITHIN_MS).catch(() => undefined)
    return typeof gauges === 'symbol' ? undefined : gauges
  }
}

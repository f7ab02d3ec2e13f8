/** What a scrape of a real watchdog shows of supervisors that come, die and go. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { redisBeatWriter } from '../../src/heartbeat/redis-heartbeats.js'
import { connectRedis } from '../../src/platform/redis.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { startWatchdog } from '../../src/processes/watchdog.js'
import { beatOf, loopOf } from '../support/beats.js'
import { until } from '../support/processes.js'
import { startTestRedis } from '../support/redis.js'
import { testConfig } from '../support/watchdog-config.js'

const LIMIT_MS = 30_000
const keys = fleetKeys('{unstuck}')
const quiet = { info: () => undefined, warn: () => undefined }

async function setup({ goneAfterMs = 600_000 } = {}) {
  const server = await startTestRedis()
  onTestFinished(() => server.stop())
  const redis = connectRedis(server.url, 'command')
  onTestFinished(() => redis.disconnect())
  const config = testConfig({ redisUrl: server.url })
  const watchdog = await startWatchdog({ ...config, watchdog: { ...config.watchdog, goneAfterMs } }, { log: quiet, id: 'w1' })
  onTestFinished(() => watchdog.stop())
  /** Series of a supervisor, without their values. */
  const seriesOf = async (name: string) =>
    (await (await fetch(`${watchdog.address}/metrics`)).text())
      .split('\n')
      .filter((line) => line.includes(`supervisor="${name}"`))
      .map((line) => line.slice(0, line.lastIndexOf(' ')))
  const shows = (name: string, count: number) =>
    until(
      () => seriesOf(name),
      ({ length }) => length === count,
      LIMIT_MS,
    )
  /** A supervisor that has beaten once, and dies when the timeout is over. */
  const supervisor = async (name: string, timeoutMs: number) => {
    const identity = { prefix: '{unstuck}', supervisor: name, incarnation: `${name}-1`, host: 'h', pid: 1 }
    const writer = redisBeatWriter(redis, { ...identity, timeoutMs, queues: ['img'] })
    await writer.register()
    const loops = [loopOf({ ageMs: 66_000 }), { ...loopOf({ loop: 'reconcile', inFlight: false, state: 'paused' }) }]
    await writer.beat(beatOf({ supervisor: name, incarnation: `${name}-1`, timeoutMs, loops }), true, true)
    return writer
  }
  return { redis, watchdog, seriesOf, shows, supervisor }
}

/** An age, and lag and staleness of two loops. */
const ALL = 5

describe('a scrape', () => {
  it('shows the age of the beat and the lag of each loop, also of a supervisor whose version tells no lags', async () => {
    const { redis, supervisor, shows, watchdog } = await setup()
    await supervisor('alpha', 600_000)
    await shows('alpha', ALL)
    expect(await redis.hdel(keys.beat('alpha'), 'lags')).toBe(1)
    await shows('alpha', ALL)
    const text = await (await fetch(`${watchdog.address}/metrics`)).text()
    const [, lag] = /^unstuck_poll_lag_seconds\{supervisor="alpha",loop="fetch",queue="img"\} (\S+)$/m.exec(text) ?? []
    expect(Number(lag)).toBeGreaterThanOrEqual(61)
    expect(text).toMatch(/^unstuck_poll_stale\{supervisor="alpha",loop="fetch",queue="img"\} 1$/m)
  })

  it('shows no loops of a dead supervisor, only since when it is silent, and nothing once it is forgotten', async () => {
    const { supervisor, shows } = await setup({ goneAfterMs: 3000 })
    await supervisor('alpha', 1500)
    const [age] = await shows('alpha', 1)
    expect(age).toBe('unstuck_heartbeat_age_seconds{supervisor="alpha"}')
    await shows('alpha', 0)
  })

  it('shows nothing of a supervisor that said goodbye', async () => {
    const { supervisor, shows } = await setup()
    const alpha = await supervisor('alpha', 600_000)
    await shows('alpha', ALL)
    await alpha.goodbye()
    await shows('alpha', 0)
  })
})

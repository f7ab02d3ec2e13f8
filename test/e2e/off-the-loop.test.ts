/** A real supervisor's own endpoints, and what it tells systemd, while its main thread or a loop of it hangs. */
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { cli } from '../support/cli.js'
import { type Running, scene, until } from '../support/processes.js'
import { startProxy } from '../support/proxy.js'
import { fakeSystemd } from '../support/systemd.js'

const WEDGE = resolve(import.meta.dirname, '../fixtures/wedge-main.mjs')
const LIMIT_MS = 30_000
/** systemd's patience; it hears of life each half of it. */
const PATIENCE = { WATCHDOG_USEC: '1000000' }

/** Short thresholds, so that a wedge shows within seconds. */
const quick = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 2500, startGraceMs: 2500 },
  heartbeat: { intervalMs: 500, timeoutMs: 2000, loopBlockedMs: 1500, threadBlockedMs: 1500 },
  watchdog: { intervalMs: 500, redisUnreachableAfterMs: 2000 },
}

async function setup() {
  const stage = await scene()
  const proxy = await startProxy(stage.redis.port)
  const queues = { jobs: { handler: stage.handler('jobs', 'export default async () => 1'), threads: 1 } }
  const config = stage.config('supervisor', { ...quick, queues, supervisor: { name: 's1' } }, proxy.url)
  const systemd = fakeSystemd()
  const start = async (env: NodeJS.ProcessEnv = {}) => {
    const running = await stage.supervisor(config, [], { env: { ...systemd.env, ...PATIENCE, ...env }, preload: WEDGE })
    return { running, ...askOf(running) }
  }
  return { ...stage, proxy, queues, supervisorConfig: config, systemd, start }
}

function askOf(running: Running) {
  const port = Number(running.lines.find(({ event }) => event === 'started')?.['port'])
  const get = (path: string) => fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(10_000) })
  const livez = async () => {
    const answer = await get('/livez')
    const { reason = '' } = (await answer.json()) as { reason?: string }
    return { status: answer.status, reason }
  }
  const alive = (status: 200 | 503) => until(livez, (seen) => seen.status === status, LIMIT_MS)
  const series = async (name: string) => {
    const line = (await (await get('/metrics')).text()).split('\n').find((candidate) => candidate.startsWith(`${name} `))
    return Number(line?.slice(name.length + 1) ?? Number.NaN)
  }
  const seriesAbove = (name: string, value: number) =>
    until(
      () => series(name),
      (seen) => seen > value,
      LIMIT_MS,
    )
  return { port, get, livez, alive, series, seriesAbove }
}

const MAIN_AGE = 'unstuck_supervisor_main_age_seconds'
const FETCH_AGE = 'unstuck_supervisor_loop_age_seconds{loop="fetch",queue="jobs"}'
const FETCH_STALE = 'unstuck_supervisor_loop_stale{loop="fetch",queue="jobs"}'

describe('the endpoints of a supervisor', () => {
  it('A8 answer while its main thread is blocked: not live, and live again when it turns', async () => {
    const { start } = await setup()
    const { running, get, alive, seriesAbove } = await start({ WEDGE: 'spin', WEDGE_MS: '8000' })
    expect((await get('/readyz')).status).toBe(200)
    running.kill('SIGUSR2')
    expect((await alive(503)).reason).toMatch(/^supervisor:s1\/main: loop_blocked for \d+ s$/)
    await seriesAbove(MAIN_AGE, 1.5)
    await alive(200)
  })

  it('A8 say not live when a loop hangs, with its phase, and live again when it goes on', async () => {
    const { start, proxy } = await setup()
    const { alive, series } = await start()
    expect(proxy.swallow('bull:jobs:pc')).toBe(1)
    expect((await alive(503)).reason).toMatch(/^supervisor:s1\/loop:fetch:jobs: poll_stale for \d+ s, in \w+$/)
    expect(await series(FETCH_STALE)).toBe(1)
    proxy.heal()
    await alive(200)
  })

  it('B3 say live while Redis is away, however long its loops hang: a restart would only cost the jobs that run', async () => {
    const { start, redis, client } = await setup()
    const { livez, series, seriesAbove } = await start()
    redis.pause()
    await seriesAbove(FETCH_AGE, 6)
    expect(await series(FETCH_STALE)).toBe(1)
    expect((await livez()).status).toBe(200)
    redis.resume()
    await client.ping()
    await until(
      () => series(FETCH_STALE),
      (stale) => stale === 0,
      LIMIT_MS,
    )
    expect((await livez()).status).toBe(200)
  })

  it('E4 on a port that is in use refuse the start, and name it and the fix', async () => {
    const { start, dir, supervisorConfig } = await setup()
    const { port } = await start()
    const args = ['supervisor', '--config', supervisorConfig, '--name', 's2', '--port', String(port)]
    const second = await cli(args, { cwd: dir })
    expect(second.code).toBe(2)
    expect(second.stderr).toMatch(new RegExp(`^unstuck: supervisor.port ${port}: something else listens there; .*\\n$`))
  })
})

describe('systemd', () => {
  it('A8 hears when a supervisor is ready, that it lives, nothing while its main thread is blocked, and when it stops', async () => {
    const { start, systemd } = await setup()
    const { running, alive, seriesAbove, livez } = await start({ WEDGE: 'spin', WEDGE_MS: '9000' })
    await systemd.told('READY=1')
    await systemd.told('WATCHDOG=1', systemd.count('WATCHDOG=1') + 2)
    running.kill('SIGUSR2')
    await alive(503)
    const before = systemd.count('WATCHDOG=1')
    // Several times its patience later, in which four were due.
    await seriesAbove(MAIN_AGE, 4)
    const heard = systemd.count('WATCHDOG=1') - before
    expect((await livez()).status).toBe(503)
    // One may have been under way at the first look.
    expect(heard).toBeLessThanOrEqual(1)
    await alive(200)
    await systemd.told('WATCHDOG=1', before + 3)
    running.kill('SIGTERM')
    await systemd.told('STOPPING=1')
    expect(await running.exited).toBe(0)
    expect(systemd.count('READY=1')).toBe(1)
  })

  it('A8 hears nothing while a loop is stale', async () => {
    const { start, systemd, proxy } = await setup()
    const { alive, seriesAbove, livez } = await start()
    await systemd.told('WATCHDOG=1', 2)
    expect(proxy.swallow('bull:jobs:pc')).toBe(1)
    await alive(503)
    const before = systemd.count('WATCHDOG=1')
    await seriesAbove(FETCH_AGE, 5)
    const heard = systemd.count('WATCHDOG=1') - before
    expect((await livez()).status).toBe(503)
    expect(heard).toBeLessThanOrEqual(1)
    proxy.heal()
    await systemd.told('WATCHDOG=1', before + 3)
  })

  it('B3 hears that a watchdog lives, also while Redis is away, since a restart would not bring that back', async () => {
    const { watchdog, config, queues, redis, systemd, dir } = await setup()
    const env = { ...systemd.env, ...PATIENCE }
    const running = await watchdog(config('watchdog', { ...quick, queues }), [], { cwd: dir, env })
    await systemd.told('READY=1')
    await systemd.told('WATCHDOG=1', 2)
    redis.pause()
    await running.line(({ cause }) => cause === 'redis_unreachable')
    await systemd.told('WATCHDOG=1', systemd.count('WATCHDOG=1') + 3)
    redis.resume()
    running.kill('SIGTERM')
    await systemd.told('STOPPING=1')
    expect(await running.exited).toBe(0)
  })
})

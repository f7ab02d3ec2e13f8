import { request } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterEach, describe, expect, it } from 'vitest'
import type { HealthView } from '../../src/http/health-view.js'
import type { Config } from '../../src/platform/config.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { startWatchdog } from '../../src/processes/watchdog.js'
import { beatOf, jobOf, loopOf, threadOf } from '../support/beats.js'
import { startFakeSupervisor } from '../support/fake-supervisor.js'
import { startTestRedis } from '../support/redis.js'
import { testConfig } from '../support/watchdog-config.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function setup(http: Partial<Config['http']> = {}) {
  const server = await startTestRedis()
  const redis = new Redis(server.url)
  redis.on('error', () => undefined)
  cleanups.push(
    () => server.stop(),
    () => redis.disconnect(),
  )
  const lines: string[] = []
  const log = { info: (_: object, msg: string) => void lines.push(msg), warn: (_: object, msg: string) => void lines.push(msg) }
  const config = testConfig({ redisUrl: server.url, http })
  const watchdog = await startWatchdog(config, { log, id: 'w1' })
  cleanups.push(() => watchdog.stop())
  const get = (path: string, headers: Record<string, string> = {}) => fetch(`${watchdog.address}${path}`, { headers })
  const health = async () => (await (await get('/api/v1/health')).json()) as HealthView
  return { server, redis, watchdog, config, lines, get, health }
}

/** Asks again, every 50 ms, until it holds: what is awaited is the watchdog's own next look. */
async function until<T>(ask: () => Promise<T>, holds: (answer: T) => boolean): Promise<T> {
  const deadline = Date.now() + 10_000
  for (;;) {
    const answer = await ask()
    if (holds(answer)) return answer
    if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(answer)}`)
    await setTimeout(50)
  }
}

async function beatingSupervisor(redis: Redis, first = beatOf()): Promise<void> {
  const supervisor = await startFakeSupervisor(redis, { first, timeoutMs: 1000 })
  cleanups.push(() => supervisor.stopBeating())
}

describe('the HTTP server of the watchdog', () => {
  it('answers ok with supervisors, queues and poll times when all is well', async () => {
    const { redis, get, health } = await setup()
    await beatingSupervisor(redis, beatOf({ loops: [loopOf({ startedAt: 1_700_000_000_000, endedAt: 1_700_000_001_000 })] }))
    const answer = await until(health, ({ status, supervisors }) => status === 'ok' && supervisors.length === 1)
    expect(answer).toMatchObject({
      pollStale: false,
      hasStuckQueue: false,
      lastPollStartedAt: '2023-11-14T22:13:20.000Z',
      lastPollCompletedAt: '2023-11-14T22:13:21.000Z',
      pollStaleThresholdMs: 60_000,
      queues: [
        { name: 'img', waiting: 0, active: 0, eligible: 1, stuck: false, exhausted: 0, breakersOpen: [] },
        { name: 'mail', waiting: 0, active: 0, eligible: 0, stuck: false, exhausted: 0, breakersOpen: [] },
      ],
      supervisors: [{ name: 'a', state: 'running' }],
      incidents: [],
    })
    expect(answer.error).toBeUndefined()
    expect((await get('/livez')).status).toBe(200)
    expect((await get('/readyz')).status).toBe(200)
  })

  it('says wedged for a stale loop, which wins over a stuck queue, and shows both', async () => {
    const { redis, health, get } = await setup()
    await redis.lpush(queueKeys('bull', 'mail').wait, '1')
    await beatingSupervisor(redis, beatOf({ loops: [loopOf({ ageMs: 66_000, phase: 'moveToActive' })] }))
    const answer = await until(health, ({ incidents }) => incidents.length === 2)
    expect(answer).toMatchObject({ status: 'wedged', pollStale: true, hasStuckQueue: true })
    const { incidents } = (await (await get('/api/v1/incidents?open=true')).json()) as { incidents: object[] }
    expect(incidents).toHaveLength(2)
  })

  it('A7 answers within 2 s while Redis is frozen, as unknown and never ok, and is not ready', async () => {
    const { server, health, get, redis } = await setup()
    await beatingSupervisor(redis)
    await until(health, ({ status }) => status === 'ok')
    server.pause()
    const answers = await Promise.all(
      [0, 1, 2].map(async () => {
        const before = Date.now()
        return { answer: await health(), tookMs: Date.now() - before }
      }),
    )
    for (const { tookMs } of answers) expect(tookMs).toBeLessThan(2000)
    const answer = await until(health, ({ status }) => status === 'unknown')
    expect(answer.error).toMatch(/Redis/)
    await until(health, ({ incidents }) => incidents.some(({ cause }) => cause === 'redis_unreachable'))
    expect((await get('/readyz')).status).toBe(503)
    expect((await get('/livez')).status).toBe(200)
    expect(await (await get('/metrics')).text()).toMatch(/^unstuck_redis_up 0$/m)
    // What was read less than a second ago is shown until then.
    await until(
      () => get('/api/v1/queues'),
      ({ status }) => status === 503,
    )
    server.resume()
    await until(health, ({ status }) => status === 'ok')
  })

  it('E5 shows metrics with series that start at 0, and no job id in them', async () => {
    const { redis, get, health } = await setup()
    await beatingSupervisor(redis, beatOf({ threads: [threadOf({ tickAgeMs: 12_000 })], jobs: [jobOf({ id: 'secret-job' })] }))
    await until(health, ({ incidents }) => incidents.length === 1)
    const text = await (await get('/metrics')).text()
    for (const line of [
      'unstuck_up{role="watchdog"} 1',
      'unstuck_redis_up 1',
      'unstuck_stuck{subject_kind="thread",cause="thread_blocked"} 1',
      'unstuck_stuck{subject_kind="process",cause="process_dead"} 0',
      'unstuck_transitions_total{cause="thread_blocked",to="stuck"} 1',
      'unstuck_transitions_total{cause="thread_blocked",to="resumed"} 0',
      'unstuck_poll_stale{supervisor="a",loop="fetch",queue="img"} 0',
      'unstuck_eligible_workers{queue="img"} 1',
      'unstuck_queue_jobs{queue="img",state="waiting"} 0',
      'unstuck_queue_stuck{queue="img"} 0',
      'unstuck_detection_seconds_count 1',
    ]) {
      expect(text.split('\n')).toContain(line)
    }
    expect(text).not.toContain('secret-job')
  })

  it('shows exhausted jobs and open breakers everywhere, and calls neither stuck', async () => {
    const { redis, get, health } = await setup()
    await beatingSupervisor(redis)
    const k = queueKeys('bull', 'img')
    await redis.zadd(k.exhausted, 1, 'a', 2, 'b')
    await redis.hset(k.breakers, { '<b>acme': '{}', '': '{}' })
    const answer = await until(health, ({ status, queues }) => status === 'ok' && queues[0]?.exhausted === 2)
    expect(answer.queues[0]).toMatchObject({ name: 'img', breakersOpen: ['', '<b>acme'], stuck: false })
    const { queues } = (await (await get('/api/v1/queues')).json()) as { queues: object[] }
    expect(queues[0]).toMatchObject({ queue: 'img', exhausted: 2, permanent: 0, breakersOpen: ['', '<b>acme'] })
    const metrics = (await (await get('/metrics')).text()).split('\n')
    for (const line of [
      'unstuck_jobs_exhausted{queue="img"} 2',
      'unstuck_jobs_exhausted{queue="mail"} 0',
      'unstuck_breaker_open{queue="img"} 2',
      'unstuck_breaker_open{queue="mail"} 0',
    ])
      expect(metrics).toContain(line)
    const page = await (await get('/status')).text()
    expect(page).toContain('<td>2</td><td>open: (no group), &lt;b&gt;acme</td>')
  })

  it('E4 escapes what it shows on the page', async () => {
    const { redis, get, health } = await setup()
    await beatingSupervisor(
      redis,
      beatOf({ threads: [threadOf({ tickAgeMs: 12_000 })], jobs: [jobOf({ id: '<script>alert(1)</script>', step: '"&\'' })] }),
    )
    await until(health, ({ incidents }) => incidents.length === 1)
    const page = await get('/status')
    expect(page.headers.get('content-type')).toMatch(/^text\/html/)
    const html = await page.text()
    expect(html).not.toContain('<script')
    expect(html).toContain('&lt;script&gt;alert(1)&lt;/script&gt;')
    expect(html).toContain('STUCK: 1 open incident')
  })

  it('E4 with a token only its bearer gets in, but for the probes', async () => {
    const { get } = await setup({ token: 'a long secret' })
    expect((await get('/livez')).status).toBe(200)
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'a long secret' }]) {
      const refused = await get('/api/v1/health', headers as Record<string, string>)
      expect(refused.status).toBe(401)
      expect(await refused.json()).toMatchObject({ error: { code: 'UNAUTHORIZED' } })
    }
    expect((await get('/api/v1/health', { authorization: 'Bearer a long secret' })).status).toBe(200)
  })

  it('E4 without a token a foreign Host is refused, and unknown addresses say so', async () => {
    const { watchdog, get } = await setup()
    const status = await new Promise((resolve, reject) => {
      request(`${watchdog.address}/api/v1/health`, { headers: { host: 'evil.example' } }, (response) =>
        resolve(response.resume().statusCode),
      )
        .on('error', reject)
        .end()
    })
    expect(status).toBe(403)
    const unknown = await get('/api/v1/nothing?x=1')
    expect(unknown.status).toBe(404)
    expect(await unknown.json()).toEqual({
      error: { code: 'NOT_FOUND', message: 'GET /api/v1/nothing: there is no such address' },
    })
  })

  it('E4 a port in use is one line that names it and the fix', async () => {
    const { watchdog, config } = await setup()
    const port = Number(new URL(watchdog.address).port)
    const second = startWatchdog({ ...config, http: { ...config.http, port } }, { id: 'w2' })
    await expect(second).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      message: expect.stringMatching(new RegExp(`^port ${port} on 127.0.0.1: in use .*--port`)),
    })
  })

  it('B4 says goodbye when it is stopped: nobody will call it lost', async () => {
    const { watchdog, redis, health } = await setup()
    await until(health, ({ status }) => status === 'ok')
    expect(await redis.zscore('{unstuck}:watchdogs', 'w1')).not.toBeNull()
    await watchdog.stop()
    expect(await redis.zscore('{unstuck}:watchdogs', 'w1')).toBeNull()
  })
})

/** bull-board behind the watchdog's door: who may change something there, and what is written down of it. */
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { startWatchdog } from '../../src/processes/watchdog.js'
import { startTestRedis } from '../support/redis.js'
import { testConfig } from '../support/watchdog-config.js'

const FULL = 'Bearer full-token'
const READ = 'Bearer read-token'

/** Everything that changes something, by the API of bull-board 9.10. */
const MUTATIONS = [
  ...['PUT pause', 'PUT resume', 'POST mail/add', 'PUT mail/retry/failed', 'PUT mail/promote', 'PUT mail/clean/delayed'],
  ...['PUT mail/pause', 'PUT mail/resume', 'PUT mail/concurrency', 'PUT mail/rate-limit', 'PUT mail/rate-limit/release'],
  ...['PUT mail/empty', 'PUT mail/obliterate', 'PUT mail/job-schedulers/s/remove', 'PATCH mail/job-schedulers/s'],
  ...['PUT mail/job-schedulers/s/run', 'PUT mail/late/retry', 'PUT mail/late/clean', 'PUT mail/late/promote'],
  ...['PATCH mail/late/update-data', 'PATCH mail/late/delay', 'PATCH mail/late/priority'],
  'PUT mail/late/remove-unprocessed-children',
]

async function setup() {
  const server = await startTestRedis()
  onTestFinished(() => server.stop())
  const redis = new Redis(server.url)
  redis.on('error', () => undefined)
  onTestFinished(() => redis.disconnect())
  const queue = new Queue('mail', { connection: { url: server.url, maxRetriesPerRequest: null } })
  onTestFinished(() => queue.close())
  await queue.add('late', {}, { jobId: 'late', delay: 3_600_000 })
  const http = { token: 'full-token', readToken: 'read-token' }
  const watchdog = await startWatchdog(testConfig({ redisUrl: server.url, http }), { id: 'w1' })
  onTestFinished(() => watchdog.stop())
  const ask = async (asked: string, authorization: string) => {
    const [method = '', place = ''] = asked.split(' ')
    const path = place === '' ? '' : `/${place}`
    const headers = { authorization, ...(method === 'GET' ? {} : { 'content-type': 'application/json' }) }
    const body = method === 'GET' ? {} : { body: '{}' }
    return fetch(`${watchdog.address}/queues/api/queues${path}`, { method, headers, ...body })
  }
  const audit = async (name = 'mail') => {
    const entries = await redis.xrange(queueKeys('bull', name).audit, '-', '+')
    return entries.map(([, fields]) =>
      Object.fromEntries(fields.flatMap((word, at) => (at % 2 ? [] : [[word, fields[at + 1]]]))),
    )
  }
  /** All that BullMQ keeps of the queue. */
  const kept = async () => {
    const names = (await redis.keys('bull:mail:*')).sort()
    return Promise.all(names.map(async (name) => [name, (await redis.dump(name))?.toString()]))
  }
  return { server, redis, queue, ask, audit, kept }
}

describe('bull-board', () => {
  it('E4: writes down who did what, when, to which job or queue, before it is done', async () => {
    const { ask, audit, queue } = await setup()
    const before = Date.now()
    expect((await ask('PUT mail/late/promote', FULL)).ok).toBe(true)
    expect(await queue.getJobState('late')).toBe('waiting')
    expect((await ask('PUT mail/pause', FULL)).ok).toBe(true)
    expect(await queue.isPaused()).toBe(true)
    await ask('PUT mail/clean/failed', FULL)
    const [promoted, ...later] = await audit()
    const who = { by: 'bull-board', actor: 'http:token 127.0.0.1' }
    expect(promoted).toMatchObject({ action: 'promote', jobId: 'late', reason: '', ...who })
    // The store's clock and ours are this machine's.
    expect(Number(promoted?.['at'])).toBeGreaterThanOrEqual(before - 1000)
    expect(later).toMatchObject([
      { action: 'pause', jobId: '', ...who },
      { action: 'clean', reason: 'failed', ...who },
    ])
    expect((await ask('PUT resume', FULL)).ok).toBe(true)
    expect((await audit()).at(-1)).toMatchObject({ action: 'resume', ...who })
    expect((await audit('img')).at(-1)).toMatchObject({ action: 'resume', ...who })
  })

  it('changes nothing that it cannot write down', async () => {
    const { ask, redis, queue } = await setup()
    await redis.set(queueKeys('bull', 'mail').audit, 'not a stream')
    expect((await ask('PUT mail/pause', FULL)).status).toBeGreaterThanOrEqual(500)
    expect(await queue.isPaused()).toBe(false)
  })

  it('E4: changes nothing for a read token, whatever is asked, and shows it no buttons', async () => {
    const { ask, audit, kept } = await setup()
    const all = await kept()
    for (const asked of MUTATIONS) expect(`${asked} ${(await ask(asked, READ)).status}`).toBe(`${asked} 403`)
    expect(await kept()).toEqual(all)
    expect(await audit()).toEqual([])
    const readOnlyOf = async (authorization: string) => {
      const { queues } = (await (await ask('GET', authorization)).json()) as { queues: { readOnlyMode: boolean }[] }
      return queues.map(({ readOnlyMode }) => readOnlyMode)
    }
    expect(await readOnlyOf(READ)).toEqual([true, true])
    expect(await readOnlyOf(FULL)).toEqual([false, false])
  })

  it('lists nothing that changes something beyond what is tested here', async () => {
    const { appRoutes } = (await import('@bull-board/api/dist/routes.js' as string)) as {
      appRoutes: { api: { method: string; route: string }[] }
    }
    const known = appRoutes.api.filter(({ method }) => method !== 'get')
    const filled = known.map(({ method, route }) => {
      const path = route.replace('/api/queues/', '').replace(':queueName', 'mail').replace(':jobId', 'late')
      return `${method.toUpperCase()} ${path.replace(':schedulerId', 's')}`
    })
    const expected = filled.map((one) =>
      one.replace('retry/:queueStatus', 'retry/failed').replace('clean/:queueStatus', 'clean/delayed'),
    )
    expect(expected.sort()).toEqual([...MUTATIONS].sort())
  })
})

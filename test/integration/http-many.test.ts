/** Many clients of a watchdog at once, and what holds for all routes: over a real Redis. */
import { Queue } from 'bullmq'
import { describe, expect, it, onTestFinished } from 'vitest'
import { KEPT_MS } from '../../src/http/shared-answers.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { startWatchdog } from '../../src/processes/watchdog.js'
import { failedJobs } from '../support/failed-jobs.js'
import { testConfig } from '../support/watchdog-config.js'

const keys = fleetKeys('{unstuck}')

async function setup() {
  const jobs = await failedJobs()
  const warnings: { fields: object; message: string }[] = []
  const log = { info: () => undefined, warn: (fields: object, message: string) => void warnings.push({ fields, message }) }
  const watchdog = await startWatchdog(testConfig({ redisUrl: jobs.server.url }), { log, id: 'w1' })
  onTestFinished(() => watchdog.stop())
  await jobs.redis.sadd(keys.queues, 'mail')
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(`${watchdog.address}/api/v1${path}`, init)
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const post = (path: string, body: object) =>
    ask(path, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
  return { ...jobs, ask, post, warnings }
}

type Listed = readonly { readonly id: string; readonly queue: string }[]

describe('many who ask the same', () => {
  it('cost Redis one reading in a while, and all get it', async () => {
    const { redis, ask } = await setup()
    const readings = async () => Number(/^cmdstat_xrevrange:calls=(\d+)/m.exec(await redis.info('commandstats'))?.[1] ?? 0)
    const before = await readings()
    const began = performance.now()
    const answers = await Promise.all(Array.from({ length: 200 }, () => ask('/incidents')))
    const windows = Math.ceil((performance.now() - began) / KEPT_MS)
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    // The stream of events looks at its end now and then too.
    expect((await readings()) - before).toBeLessThanOrEqual(windows + 2)
  })

  it('see what one of them has changed, as soon as that is answered', async () => {
    const { ask, post } = await setup()
    const listed = async () => ((await ask('/queues/mail/jobs')).body['jobs'] as Listed).map(({ id }) => id)
    const ids: string[] = []
    for (let number = 0; number < 10; number += 1) {
      ids.push(`j${number}`)
      expect((await post('/queues/mail/jobs', { jobId: `j${number}` })).status).toBe(201)
      expect(await listed()).toEqual(ids)
    }
  })
})

describe('a job that is looked for by its id', () => {
  it('is found in whichever queues it is, and nowhere without a refusal', async () => {
    const { server, queue, redis, ask } = await setup()
    const img = new Queue('img', { connection: { url: server.url } })
    onTestFinished(() => img.close())
    for (const jobId of ['both', '..', 'a/b']) await queue.add('n', {}, { jobId })
    await img.add('n', {}, { jobId: 'both' })
    await redis.sadd(keys.queues, 'img')
    const found = async (query: string) =>
      ((await ask(`/jobs?${query}`)).body['jobs'] as Listed).map((job) => `${job.queue}/${job.id}`).sort()
    await expect.poll(() => found('id=both'), { timeout: 10_000 }).toEqual(['img/both', 'mail/both'])
    expect(await found('id=both&queue=mail')).toEqual(['mail/both'])
    expect(await found('id=..')).toEqual(['mail/..'])
    expect(await found('id=a%2Fb')).toEqual(['mail/a/b'])
    expect([await found('id=none'), await found('id=meta'), await found('id=both&queue=none')]).toEqual([[], [], []])
    expect((await ask('/jobs')).body).toMatchObject({ error: { code: 'INPUT_INVALID' } })
  })
})

describe('an answer that says 500', () => {
  it('is in the log, with its route and without what was asked', async () => {
    const { redis, ask, warnings } = await setup()
    await redis.lpush(keys.dump('secret-id'), 'no text')
    for (let times = 0; times < 3; times += 1) expect((await ask('/dumps/secret-id')).status).toBe(500)
    expect(warnings).toEqual([{ fields: { event: 'error', count: 1 }, message: expect.anything() as string }])
    expect(warnings[0]?.message).toMatch(/^GET \/api\/v1\/dumps\/:id could not be served: ReplyError WRONGTYPE/)
    expect(warnings[0]?.message).not.toContain('secret-id')
  })
})

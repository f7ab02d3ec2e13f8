/** The API of a watchdog over a real Redis: what it answers, what it changes, and what it refuses without a trace. */
import { request as httpRequest } from 'node:http'
import { fastify } from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { addEvents } from '../../src/http/events.js'
import { addHistory } from '../../src/http/history.js'
import { addRoutes } from '../../src/http/routes.js'
import type { Config } from '../../src/platform/config.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { startWatchdog } from '../../src/processes/watchdog.js'
import { saveDumps } from '../../src/stackdump/redis-dumps.js'
import { beatOf, jobOf } from '../support/beats.js'
import { failedJobs, k } from '../support/failed-jobs.js'
import { startFakeSupervisor } from '../support/fake-supervisor.js'
import { againstDescription, type OpenApi } from '../support/http-schema.js'
import { testConfig } from '../support/watchdog-config.js'

interface Answer {
  readonly status: number
  readonly body: Record<string, unknown>
}

async function setup(http: Partial<Config['http']> = {}) {
  const jobs = await failedJobs()
  const log = { info: () => undefined, warn: () => undefined }
  const watchdog = await startWatchdog(testConfig({ redisUrl: jobs.server.url, http }), { log, id: 'w1' })
  onTestFinished(() => watchdog.stop())
  const ask = async (method: string, path: string, init: { body?: string; headers?: Record<string, string> } = {}) => {
    const response = await fetch(`${watchdog.address}/api/v1${path}`, { method, ...init })
    return { status: response.status, body: (await response.json()) as Answer['body'] }
  }
  const get = (path: string): Promise<Answer> => ask('GET', path)
  const post = (path: string, body?: unknown): Promise<Answer> =>
    ask('POST', path, body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
  /** Everything in Redis that is not the watchdog's own, to see that nothing changed. */
  const trace = async () => {
    const keys = (await jobs.redis.keys('bull:*')).sort()
    return JSON.stringify(await Promise.all(keys.map(async (key) => [key, await dumpOf(key)])))
  }
  const dumpOf = async (key: string) => (await jobs.redis.dumpBuffer(key))?.toString('base64')
  await jobs.redis.sadd(fleetKeys('{unstuck}').queues, 'mail')
  await jobs.queue.waitUntilReady()
  return {
    ...jobs,
    watchdog,
    ask,
    get,
    post,
    trace,
    description: async () => (await get('/openapi.json')).body as unknown as OpenApi,
  }
}

const code = ({ status, body }: Answer) => `${status} ${(body['error'] as { code: string } | undefined)?.code}`

describe('the description of the API', () => {
  it('has every route under /api, and no other', async () => {
    const { description } = await setup()
    const registered: string[] = []
    const server = fastify()
    server.addHook('onRoute', ({ method, url }) => {
      for (const verb of [method].flat()) if (verb !== 'HEAD' && url.startsWith('/api/')) registered.push(`${verb} ${url}`)
    })
    // Nothing is called: routes are only added.
    await addRoutes(server, {} as never)
    addEvents(server, {} as never)
    addHistory(server, {} as never)
    const { openapi, paths } = await description()
    expect(openapi).toBe('3.1.0')
    const described = Object.entries(paths).flatMap(([path, verbs]) =>
      Object.keys(verbs).map((verb) => `${verb.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`),
    )
    expect(described.sort()).toEqual(registered.sort())
  })

  it('says what each route really answers', async () => {
    const { redis, failed, queue, get, post, description, claim } = await setup()
    const supervisor = await startFakeSupervisor(redis, {
      first: beatOf({ jobs: [jobOf({ step: 'charge', stepMs: 10 })], dumps: true }),
      timeoutMs: 1000,
    })
    onTestFinished(() => supervisor.stopBeating())
    await failed({ id: 'out', cooldownMs: 60_000 })
    await queue.add('n', {}, { jobId: 'running' })
    await claim()
    await queue.add('n', {}, { jobId: 'later', delay: 60_000 })
    await saveDumps(redis, fleetKeys('{unstuck}'), 'a', { request: 'r', dumps: [] }, [DUMP])
    const api = await description()
    const calls: [string, string, string, unknown?][] = [
      ['GET', '/health', '/health'],
      ['GET', '/supervisors', '/supervisors'],
      ['GET', '/supervisors/{id}', '/supervisors/a'],
      ['GET', '/supervisors/{id}', '/supervisors/b'],
      ['GET', '/queues', '/queues'],
      ['GET', '/queues/{queue}', '/queues/mail'],
      ['GET', '/queues/{queue}', '/queues/none'],
      ['GET', '/queues/{queue}/jobs', '/queues/mail/jobs?limit=2'],
      ['GET', '/queues/{queue}/jobs/{id}', '/queues/mail/jobs/out'],
      ['GET', '/queues/{queue}/jobs/{id}', '/queues/mail/jobs/none'],
      ['GET', '/jobs', '/jobs?id=out'],
      ['GET', '/incidents', '/incidents?limit=10'],
      ['GET', '/dumps/{id}', '/dumps/d1'],
      ['GET', '/dumps/{id}', '/dumps/d2'],
      ['GET', '/history', '/history?minutes=5'],
      ['POST', '/queues/{queue}/jobs', '/queues/mail/jobs', { data: 1 }],
      ['POST', '/queues/{queue}/jobs/{id}/reset', '/queues/mail/jobs/out/reset', { dryRun: true }],
      ['POST', '/queues/{queue}/jobs/{id}/reset', '/queues/mail/jobs/out/reset', { reason: 'why not' }],
      ['POST', '/queues/{queue}/jobs/{id}/reset', '/queues/mail/jobs/running/reset'],
      ['POST', '/queues/{queue}/jobs/{id}/cancel', '/queues/mail/jobs/later/cancel'],
      ['POST', '/queues/{queue}/reset', '/queues/mail/reset', { dryRun: true }],
      ['POST', '/queues/{queue}/pause', '/queues/mail/pause'],
      ['POST', '/queues/{queue}/resume', '/queues/mail/resume', {}],
      ['POST', '/supervisors/{id}/drain', '/supervisors/a/drain', { dryRun: true }],
      ['POST', '/supervisors/{id}/dump', '/supervisors/b/dump', {}],
    ]
    const problems: unknown[] = []
    for (const [method, path, url, body] of calls) {
      const answer = method === 'GET' ? await get(url) : await post(url, body)
      problems.push(await againstDescription(api, { method, path: `/api/v1${path}`, ...answer }))
    }
    expect(problems.filter((problem) => problem !== undefined)).toEqual([])
    const { body } = await get('/queues/mail')
    const { waiting: _, ...missing } = body
    for (const wrong of [missing, { ...body, more: 1 }, { ...body, waiting: '1' }]) {
      const call = { method: 'GET', path: '/api/v1/queues/{queue}', status: 200, body: wrong }
      expect(await againstDescription(api, call)).toMatch(/waiting|additional/)
    }
  })
})

describe('what is asked', () => {
  it('C1: shows a job as `explain` does, in the list and alone, and never what it was given', async () => {
    const { failed, get } = await setup()
    await failed({ id: 'j', cooldownMs: 60_000, group: 'acme' })
    const { body: job } = await get('/queues/mail/jobs/j')
    expect(job).toMatchObject({
      id: 'j',
      status: 'exhausted',
      attemptsMade: 8,
      attemptsMax: 8,
      reason: 'cooldown',
      group: 'acme',
    })
    const { body } = await get('/queues/mail/jobs?status=exhausted')
    const { why, ...listed } = job
    expect(why).toMatch(/^exhausted after 8 attempts: boom; /)
    expect(body).toEqual({ jobs: [listed] })
  })

  it('tells a job that is launched from one that runs, by what its supervisor says', async () => {
    const { redis, queue, claim, get } = await setup()
    await queue.addBulk(['one', 'two', 'three'].map((jobId) => ({ name: 'n', data: {}, opts: { jobId } })))
    for (let claimed = 0; claimed < 3; claimed++) await claim()
    const jobs = [
      jobOf({ queue: 'mail', id: 'one', launching: true, step: 'launch 2/5' }),
      jobOf({ queue: 'mail', id: 'two', step: 'charge' }),
    ]
    const supervisor = await startFakeSupervisor(redis, { first: beatOf({ jobs }), timeoutMs: 1000 })
    onTestFinished(() => supervisor.stopBeating())
    const shown = async (status: string) =>
      ((await get(`/queues/mail/jobs?status=${status}`)).body['jobs'] as Record<string, unknown>[])
        .map(({ id, supervisor: by, step, reason }) => [id, by, step, reason].join(' '))
        .sort()
    await expect.poll(() => shown('launching'), { timeout: 5000 }).toEqual(['one a launch 2/5 launching'])
    expect(await shown('running')).toEqual(['three   orphaned', 'two a charge running'])
  })

  it('turns pages with the cursor', async () => {
    const { queue, get } = await setup()
    await queue.addBulk(Array.from({ length: 7 }, (_, index) => ({ name: 'n', data: {}, opts: { jobId: `j${index}` } })))
    const ids: string[] = []
    let cursor = ''
    do {
      const { body } = await get(`/queues/mail/jobs?status=waiting&limit=3${cursor}`)
      ids.push(...(body['jobs'] as { id: string }[]).map(({ id }) => id))
      cursor = typeof body['cursor'] === 'string' ? `&cursor=${encodeURIComponent(body['cursor'])}` : ''
    } while (cursor !== '')
    expect(ids).toEqual(['j0', 'j1', 'j2', 'j3', 'j4', 'j5', 'j6'])
  })

  it('says what is not there with 404, and what cannot be asked with 400', async () => {
    const { get } = await setup()
    const answers = await Promise.all(
      [
        ...['/supervisors/x', '/queues/x', '/queues/x/jobs', '/queues/mail/jobs/x', '/queues/x/jobs/x', '/dumps/x', '/nothing'],
        ...['/queues/a:b/jobs', '/queues/__proto__/jobs', '/queues/mail/jobs?status=asleep', '/queues/mail/jobs?limit=0'],
        ...['/queues/mail/jobs?limit=201', '/queues/mail/jobs?limit=1e2', '/queues/mail/jobs?limit=', '/queues/mail/jobs?x=1'],
        ...['/queues/mail/jobs?cursor=zzz', '/queues/mail/jobs?status=failed&status=failed', '/queues/mail/jobs?__proto__=1'],
        ...[
          '/incidents?open=yes',
          '/incidents?limit=-1',
          '/queues/mail/jobs/%ZZ',
          '/queues/mail/jobs/%FF',
          '/history?minutes=99',
        ],
      ].map(async (path) => `${path} → ${code(await get(path))}`),
    )
    expect(answers).toEqual([
      ...['/supervisors/x → 404 SUPERVISOR_UNKNOWN', '/queues/x → 404 QUEUE_UNKNOWN', '/queues/x/jobs → 404 QUEUE_UNKNOWN'],
      ...['/queues/mail/jobs/x → 404 JOB_UNKNOWN', '/queues/x/jobs/x → 404 QUEUE_UNKNOWN', '/dumps/x → 404 DUMP_UNKNOWN'],
      ...['/nothing → 404 NOT_FOUND', '/queues/a:b/jobs → 400 INPUT_INVALID', '/queues/__proto__/jobs → 404 QUEUE_UNKNOWN'],
      '/queues/mail/jobs?status=asleep → 400 INPUT_INVALID',
      ...['limit=0', 'limit=201', 'limit=1e2', 'limit=', 'x=1', 'cursor=zzz', 'status=failed&status=failed', '__proto__=1'].map(
        (query) => `/queues/mail/jobs?${query} → 400 INPUT_INVALID`,
      ),
      ...['/incidents?open=yes → 400 INPUT_INVALID', '/incidents?limit=-1 → 400 INPUT_INVALID'],
      ...['/queues/mail/jobs/%ZZ → 400 BAD_REQUEST', '/queues/mail/jobs/%FF → 400 BAD_REQUEST'],
      '/history?minutes=99 → 400 INPUT_INVALID',
    ])
  })
})

describe('what is ordered', () => {
  it('C12: resets a job, with one audit entry that says who and why, and refuses the second time', async () => {
    const { failed, post, get, audit, stateOf } = await setup()
    await failed({ id: 'j', cooldownMs: 60_000 })
    expect(await post('/queues/mail/jobs/j/reset', { dryRun: true })).toEqual({
      status: 200,
      body: { dryRun: true, queue: 'mail', jobId: 'j', attemptsBefore: 8 },
    })
    expect(await stateOf('j')).toBe('failed')
    const [one, two] = await Promise.all([
      post('/queues/mail/jobs/j/reset', { reason: 'mended' }),
      post('/queues/mail/jobs/j/reset', { reason: 'mended' }),
    ])
    expect([code(one), code(two)].sort()).toEqual(['200 undefined', '409 JOB_FRESH'])
    expect((await get('/queues/mail/jobs/j')).body).toMatchObject({ attemptsMade: 0 })
    expect(await audit()).toEqual([
      expect.objectContaining({ action: 'reset', jobId: 'j', actor: 'http:127.0.0.1', reason: 'mended', attempts: '8' }),
    ])
  })

  it('signs an order with the token that it came with', async () => {
    const { ask, audit } = await setup({ token: 'a long secret' })
    const pause = (token: string) =>
      ask('POST', '/queues/mail/pause', { body: '{}', headers: { 'content-type': 'application/json', authorization: token } })
    expect(code(await pause('Bearer wrong'))).toBe('401 UNAUTHORIZED')
    expect(await audit()).toEqual([])
    expect((await pause('Bearer a long secret')).status).toBe(200)
    expect(await audit()).toEqual([expect.objectContaining({ action: 'pause', actor: 'http:token 127.0.0.1' })])
  })

  it('adds one job or many, cancels, pauses and resumes, as the command line does', async () => {
    const { post, get, audit, queue } = await setup()
    expect(await post('/queues/mail/jobs', { name: 'n', data: { a: 1 }, jobId: 'one', group: 'acme', priority: 3 })).toEqual({
      status: 201,
      body: { ids: ['one'] },
    })
    const many = await post('/queues/mail/jobs', { jobs: [{ jobId: 'x' }, { jobId: 'y', delay: 60_000, attempts: 2 }] })
    expect(many.body).toEqual({ ids: ['x', 'y'] })
    expect((await get('/queues/mail/jobs/one')).body).toMatchObject({
      name: 'n',
      group: 'acme',
      status: 'waiting',
      attemptsMax: 8,
    })
    expect((await get('/queues/mail/jobs/y')).body).toMatchObject({ status: 'scheduled', attemptsMax: 2 })
    expect((await post('/queues/mail/pause', { reason: 'night' })).body).toEqual({
      queue: 'mail',
      action: 'pause',
      changed: true,
    })
    expect((await post('/queues/mail/pause')).body).toMatchObject({ changed: false })
    expect(await queue.isPaused()).toBe(true)
    expect((await post('/queues/mail/resume', { dryRun: true })).body).toMatchObject({ dryRun: true, changed: true })
    expect(await queue.isPaused()).toBe(true)
    expect((await post('/queues/mail/resume', {})).body).toMatchObject({ changed: true })
    expect((await post('/queues/mail/jobs/x/cancel', {})).body).toEqual({ queue: 'mail', jobId: 'x', state: 'cancelled' })
    expect((await get('/queues/mail/jobs/x')).body).toMatchObject({ status: 'cancelled' })
    expect((await audit()).map(({ action, actor, reason }) => `${action} ${actor} ${reason}`)).toEqual([
      'pause http:127.0.0.1 night',
      'resume http:127.0.0.1 ',
      'cancel http:127.0.0.1 ',
    ])
  })

  it('C10: orders a bulk reset with its count and pace; a group of null is no group, and is refused', async () => {
    const { many, post, redis } = await setup()
    await many(3, { cooldownMs: 60_000 })
    expect((await post('/queues/mail/reset', { dryRun: true })).body).toEqual({
      ...{ dryRun: true, queue: 'mail', jobs: 3, perSecond: 10 },
    })
    expect(await redis.llen(k.campaigns)).toBe(0)
    expect(code(await post('/queues/mail/reset', { group: null }))).toBe('400 INPUT_INVALID')
    expect(await redis.llen(k.campaigns)).toBe(0)
    expect((await post('/queues/mail/reset', { reason: 'morning' })).body).toEqual({ queue: 'mail', jobs: 3, perSecond: 10 })
    expect(await redis.llen(k.campaigns)).toBe(1)
  })

  it('drains a supervisor that lives, and refuses one that is unknown', async () => {
    const { redis, post } = await setup()
    const orders: string[] = []
    const supervisor = await startFakeSupervisor(redis, { timeoutMs: 1000, onOrder: (order) => void orders.push(order) })
    onTestFinished(() => supervisor.stopBeating())
    expect((await post('/supervisors/a/drain', { dryRun: true })).body).toEqual({ dryRun: true, supervisor: 'a', running: 0 })
    expect((await post('/supervisors/a/drain')).body).toEqual({ supervisor: 'a', running: 0 })
    await supervisor.kick()
    expect(orders).toEqual([expect.stringContaining('drain')])
    expect(code(await post('/supervisors/nobody/drain'))).toBe('404 SUPERVISOR_UNKNOWN')
    expect(code(await post('/supervisors/nobody/dump'))).toBe('404 SUPERVISOR_UNKNOWN')
    expect(code(await post('/supervisors/a/dump', { thread: 'nonsense' }))).toBe('400 INPUT_INVALID')
    expect(code(await post('/supervisors/a/dump'))).toBe('409 DUMP_REFUSED')
  })
})

describe('E4: what cannot be obeyed', () => {
  it('is refused by state, with the status and code of its reason, and nothing is changed', async () => {
    const { queue, claim, redis, post, trace } = await setup()
    await queue.add('n', {}, { jobId: 'done' })
    const done = await claim()
    await done.job.moveToCompleted(1, done.token, false)
    await queue.add('n', {}, { jobId: 'running' })
    await claim()
    await redis.hset(k.job('running'), 'pb', 'someone-elses-worker')
    await queue.add('n', {}, { jobId: 'fresh' })
    const before = await trace()
    const asked: [string, unknown?][] = [
      ['/jobs/unknown/reset'],
      ['/jobs/running/reset'],
      ['/jobs/done/reset'],
      ['/jobs/fresh/reset'],
      ['/jobs/meta/reset'],
      ['/jobs/unstuck:exhausted/cancel'],
      ['/jobs/unknown/cancel'],
      ['/jobs/done/cancel'],
      ['/jobs/running/cancel'],
      ['/jobs/fresh/cancel', { reason: 'x'.repeat(501) }],
      ['/jobs/fresh/cancel', { because: 'x' }],
    ]
    const answers = []
    for (const [path, body] of asked) answers.push(`${path} → ${code(await post(`/queues/mail${path}`, body))}`)
    expect(answers).toEqual([
      '/jobs/unknown/reset → 404 JOB_UNKNOWN',
      '/jobs/running/reset → 409 JOB_RUNNING',
      '/jobs/done/reset → 409 JOB_COMPLETED',
      '/jobs/fresh/reset → 409 JOB_FRESH',
      '/jobs/meta/reset → 404 JOB_UNKNOWN',
      '/jobs/unstuck:exhausted/cancel → 404 JOB_UNKNOWN',
      '/jobs/unknown/cancel → 404 JOB_UNKNOWN',
      '/jobs/done/cancel → 409 JOB_COMPLETED',
      '/jobs/running/cancel → 409 JOB_FOREIGN',
      '/jobs/fresh/cancel → 400 INPUT_INVALID',
      '/jobs/fresh/cancel → 400 INPUT_INVALID',
    ])
    expect(code(await post('/queues/nowhere/pause'))).toBe('404 QUEUE_UNKNOWN')
    expect(code(await post('/queues/nowhere/jobs/x/reset'))).toBe('404 QUEUE_UNKNOWN')
    expect(await trace()).toBe(before)
  })

  it('is refused by form: bad JSON, wrong types, __proto__ keys, too deep, too large, no JSON at all', async () => {
    const { ask, trace } = await setup()
    const before = await trace()
    const send = async (body: string, type = 'application/json') =>
      code(await ask('POST', '/queues/mail/jobs', { body, headers: { 'content-type': type } }))
    const deep = `{"data":${'['.repeat(200_000)}${']'.repeat(200_000)}}`
    expect(await send('{"data":')).toBe('400 BAD_REQUEST')
    expect(await send('')).toBe('400 BAD_REQUEST')
    expect(await send('{"data":{"__proto__":{"admin":true}}}')).toBe('400 BAD_REQUEST')
    expect(await send('{"data":{"constructor":{"prototype":{"admin":true}}}}')).toBe('400 BAD_REQUEST')
    expect(await send(deep)).toBe('400 INPUT_INVALID')
    expect(await send(JSON.stringify({ data: 'x'.repeat(1024 * 1024) }))).toBe('413 BODY_TOO_LARGE')
    expect(await send('{}', 'text/plain')).toBe('415 BAD_REQUEST')
    expect(await send('data=1', 'application/x-www-form-urlencoded')).toBe('415 BAD_REQUEST')
    const invalid = [
      ...['null', '[]', '7', '"x"', '{"jobs":[]}', '{"jobs":{}}', '{"jobs":[{}],"data":1}', '{"jobs":[null]}', '{"dta":1}'],
      ...['{"attempts":"3"}', '{"attempts":0}', '{"priority":2097153}', '{"delay":-1}', '{"delay":1e300}', '{"name":null}'],
      ...['{"jobId":"a:b"}', '{"jobId":"17"}', '{"jobId":""}', '{"jobId":"meta"}', '{"jobId":"a\\u0000b"}', '{"group":""}'],
      ...['{"jobs":[{"jobId":"fine"},{"jobId":"a:b"}]}', `{"jobs":[${'{},'.repeat(1000)}{}]}`, '{"jobs":[{"more":1}]}'],
    ]
    for (const body of invalid)
      expect(`${body.slice(0, 60)} ${await send(body)}`).toBe(`${body.slice(0, 60)} 400 INPUT_INVALID`)
    expect(await trace()).toBe(before)
  })

  it('names what is wrong in one line', async () => {
    const { post } = await setup()
    const message = async (body: unknown) =>
      ((await post('/queues/mail/jobs', body)).body['error'] as { message: string }).message
    expect(await message({ dta: 1 })).toBe('body: there is no field "dta"; leave it out')
    expect(await message({ jobs: [{ attempts: '3' }] })).toBe('body.jobs.0.attempts: must be integer; correct it')
    expect(await message({ jobs: [{}, { jobId: 'a:b' }] })).toMatch(/^job 2: jobId "a:b" has a colon/)
  })

  it('job ids with every odd byte are found, and only they', async () => {
    const { post, get, watchdog } = await setup()
    const ids = [
      ...[
        'a b',
        'a/b',
        '/',
        '?x=1',
        '#',
        '%',
        '%2F',
        '100%',
        'ä€😀',
        '\\',
        '"\'<>`',
        '{}[]|^~',
        ';,@&=+$',
        '*',
        '...',
        ' ',
        '-1x',
      ],
      ...['x'.repeat(160), '€'.repeat(53), '__proto__', 'constructor', '\u202e', 'ünï/../cödé'],
    ]
    const every = Array.from({ length: 0x100 - 0x20 }, (_, index) => String.fromCharCode(0x20 + index))
      .filter((character) => character !== ':' && !/\p{Cc}/u.test(character))
      .map((character) => `b${character}`)
    const all = [...ids, ...every]
    expect((await post('/queues/mail/jobs', { jobs: [...all, '..', '.'].map((jobId) => ({ jobId })) })).status).toBe(201)
    for (const id of all) {
      const { status, body } = await get(`/queues/mail/jobs/${encodeURIComponent(id)}`)
      expect([status, body['id']]).toEqual([200, id])
    }
    const odd = await Promise.all(ids.slice(0, 10).map((id) => post(`/queues/mail/jobs/${encodeURIComponent(id)}/cancel`)))
    expect(odd.map(({ body }) => body['jobId'])).toEqual(ids.slice(0, 10))
    // What programs for the web take out of an address arrives when it is sent as it stands.
    expect(await rawStatus(watchdog.address, '/api/v1/queues/mail/jobs/..')).toBe(200)
    expect(await rawStatus(watchdog.address, '/api/v1/queues/mail/jobs/')).toBe(404)
    const foreign = ['a:lock', 'meta', 'unstuck:audit', 'a:b', '\u0000', 'x'.repeat(4096), 'x'.repeat(5000)]
    const answers = await Promise.all(
      foreign.map(async (id) => (await get(`/queues/mail/jobs/${encodeURIComponent(id)}`)).status),
    )
    expect(answers).toEqual([404, 404, 404, 404, 404, 404, 414])
  })
})

describe('with Redis away', () => {
  it('A7: frozen, every route answers within 2 s and says so; what was ordered has not been done when it is back', async () => {
    const { server, failed, get, post, stateOf, queue } = await setup()
    await failed({ id: 'j', cooldownMs: 60_000 })
    await get('/queues/mail/jobs/j')
    server.pause()
    onTestFinished(() => server.resume())
    // What was read less than a second ago is still shown.
    await expect.poll(async () => code(await get('/queues')), { timeout: 10_000 }).toBe('503 REDIS_UNREACHABLE')
    const timed = async (call: () => Promise<Answer>) => {
      const before = performance.now()
      const answer = code(await call())
      return performance.now() - before < 2000 ? answer : `${answer}, late`
    }
    const reads = [
      '/supervisors',
      '/supervisors/a',
      '/queues',
      '/queues/mail',
      '/queues/mail/jobs',
      '/queues/mail/jobs/j',
      '/incidents',
    ]
    const orders = ['/queues/mail/jobs', '/queues/mail/jobs/j/reset', '/queues/mail/jobs/j/cancel', '/queues/mail/reset']
    const more = ['/queues/mail/pause', '/queues/mail/resume', '/supervisors/a/dump', '/supervisors/a/drain']
    const answers = await Promise.all([
      ...[...reads, '/dumps/x', '/incidents?open=true'].map((path) => timed(() => get(path))),
      ...[...orders, ...more].map((path) => timed(() => post(path, {}))),
    ])
    expect(answers).toEqual(answers.map(() => '503 REDIS_UNREACHABLE'))
    expect(await timed(() => get('/health'))).toBe('200 undefined')
    expect((await get('/health')).body).toMatchObject({ status: 'unknown' })
    server.resume()
    await expect.poll(async () => (await get('/queues/mail/jobs/j')).status, { timeout: 10_000 }).toBe(200)
    expect(await stateOf('j')).toBe('failed')
    expect(await queue.isPaused()).toBe(false)
    expect(await queue.getWaitingCount()).toBe(0)
  })

  it('A7: and so with Redis gone; when it is back all goes on by itself', async () => {
    const { server, get, post, redis } = await setup()
    redis.on('error', () => undefined)
    await get('/queues/mail/jobs')
    await server.kill()
    const before = performance.now()
    const answers = await Promise.all([
      ...Array.from({ length: 20 }, () => get('/queues/mail/jobs')),
      ...['/jobs', '/pause', '/reset'].map((path) => post(`/queues/mail${path}`, {})),
    ])
    expect(performance.now() - before).toBeLessThan(2000)
    expect(new Set(answers.map(code))).toEqual(new Set(['503 REDIS_UNREACHABLE']))
    await server.restart()
    await expect.poll(async () => (await get('/queues/mail/jobs')).status, { timeout: 10_000 }).toBe(200)
    expect(await redis.keys('bull:mail:unstuck:*')).toEqual([])
    expect((await get('/queues/mail/jobs')).body).toEqual({ jobs: [] })
  })

  it('E2: a Redis that refuses writes is said so, and reads go on', async () => {
    const { redis, get, post, queue } = await setup()
    await queue.add('n', {}, { jobId: 'j' })
    await redis.config('SET', 'maxmemory', '1')
    expect(code(await post('/queues/mail/jobs', {}))).toBe('503 REDIS_UNSUITABLE')
    expect((await get('/queues/mail/jobs/j')).status).toBe(200)
    expect((await get('/queues/mail/jobs')).status).toBe(200)
    await redis.config('SET', 'maxmemory', '0')
    expect((await post('/queues/mail/jobs', {})).status).toBe(201)
  })
})

function rawStatus(address: string, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(address)
    httpRequest({ hostname, port, path }, (response) => resolve(response.resume().statusCode))
      .on('error', reject)
      .end()
  })
}

const DUMP = {
  ...{ id: 'd1', at: 1_700_000_000_000, supervisor: 'a', incarnation: 'a-1', tookMs: 12, notes: [] },
  subject: { queue: 'img', number: 1, generation: 1, threadId: 3 },
  class: 'running' as const,
  samples: [{ atMs: 1, frames: [{ fn: 'work', file: '/app/work.js', line: 3, column: 1 }] }],
  steps: [{ name: 'charge', ageMs: 10, job: '17' }],
}

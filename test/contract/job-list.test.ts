/** Lists of jobs against BullMQ's own sets: what is in them, page by page, while jobs come and go. */
import type { JobsOptions } from 'bullmq'
import { describe, expect, it, onTestFinished } from 'vitest'
import { JOB_STATUSES, type JobListOptions, type JobPage } from '../../src/dispatch/job-list.js'
import { Dispatcher } from '../../src/dispatcher.js'
import { failedJobs, k, QUEUE } from '../support/failed-jobs.js'
import { testConfig } from '../support/watchdog-config.js'

async function setup() {
  const jobs = await failedJobs()
  const dispatcher = new Dispatcher(testConfig({ redisUrl: jobs.server.url }))
  onTestFinished(() => dispatcher.close())
  const list = (options: JobListOptions = {}) => dispatcher.jobs(QUEUE, options)
  /** All pages, and how many there were. */
  const all = async (options: JobListOptions, between: (page: number) => Promise<unknown> = async () => undefined) => {
    const ids: string[] = []
    let page: JobPage = await list(options)
    for (let number = 1; ; number++) {
      ids.push(...page.jobs.map(({ id }) => id))
      if (page.cursor === undefined) return { ids, pages: number }
      if (number > 1000) throw new Error('endless')
      await between(number)
      page = await list({ ...options, cursor: page.cursor })
    }
  }
  const addMany = (count: number, opts: (index: number) => JobsOptions = () => ({})) =>
    jobs.queue.addBulk(
      Array.from({ length: count }, (_, index) => ({ name: 'n', data: {}, opts: { jobId: `j${index}`, ...opts(index) } })),
    )
  return { ...jobs, dispatcher, list, all, addMany }
}

const named = (count: number, from = 0) => Array.from({ length: count }, (_, index) => `j${from + index}`)

describe('a list of jobs', () => {
  it('shows each status, and nothing of what a job was given or said', async () => {
    const { queue, failed, claim, redis, list } = await setup()
    await failed({ id: 'exhausted', cooldownMs: 60_000, group: 'acme' })
    await failed({ id: 'permanent', kind: 'permanent' })
    await failed({ id: 'poison', kind: 'poison' })
    await failed({ id: 'cancelled', kind: 'cancelled' })
    await queue.add('n', { secret: 'hush' }, { jobId: 'done' })
    const { job, token } = await claim()
    await job.moveToCompleted('hush', token, false)
    await queue.add('n', { secret: 'hush' }, { jobId: 'running' })
    await claim()
    await queue.add('n', { secret: 'hush' }, { jobId: 'waiting' })
    await queue.add('n', { secret: 'hush' }, { jobId: 'low', priority: 5 })
    await queue.add('n', { secret: 'hush' }, { jobId: 'scheduled', delay: 60_000 })
    await queue.add('n', { secret: 'hush' }, { jobId: 'backing-off', delay: 90_000 })
    await redis.hset(k.job('backing-off'), 'atm', 2, 'unstuck:output', 'hush')
    const idsOf = async (options: JobListOptions) => (await list(options)).jobs.map(({ id }) => id)
    const found = Object.fromEntries(
      await Promise.all(JOB_STATUSES.map(async (status) => [status, await idsOf({ status })] as const)),
    )
    expect(found).toEqual({
      waiting: ['waiting', 'low'],
      scheduled: ['scheduled'],
      'backing-off': ['backing-off'],
      launching: [],
      running: ['running'],
      completed: ['done'],
      exhausted: ['exhausted'],
      failed: ['poison', 'permanent'],
      cancelled: ['cancelled'],
    })
    const { jobs, cursor } = await list()
    expect(cursor).toBeUndefined()
    expect(jobs.map(({ id }) => id).sort()).toEqual(Object.values(found).flat().sort())
    expect(jobs.find(({ id }) => id === 'exhausted')).toMatchObject({
      ...{ status: 'exhausted', attemptsMade: 8, attemptsMax: 8, group: 'acme', reason: 'cooldown', lastError: 'boom' },
      cooldownUntil: expect.stringMatching(/Z$/),
    })
    expect(jobs.find(({ id }) => id === 'low')).toMatchObject({ status: 'waiting', ahead: 1 })
    expect(JSON.stringify(jobs)).not.toContain('hush')
  })

  it('gives every job once, page by page, in lists and in sorted sets', async () => {
    const { addMany, all, list } = await setup()
    await addMany(25, (index) => (index >= 10 ? { delay: 60_000 + index } : index >= 5 ? { priority: 3 } : {}))
    expect(await all({ limit: 4 })).toEqual({ ids: named(25), pages: expect.any(Number) })
    expect(await all({ limit: 5, status: 'scheduled' })).toMatchObject({ ids: named(15, 10), pages: 3 })
    expect((await list({ limit: 5 })).jobs).toHaveLength(5)
    expect((await list({ limit: 25, status: 'waiting' })).cursor).toBeUndefined()
  })

  it('gives jobs that share one score once each', async () => {
    const { redis, addMany, all } = await setup()
    await addMany(23)
    await redis.del(k.wait)
    for (const id of named(23)) await redis.zadd(k.completed, 1_700_000_000_000, id)
    const { ids } = await all({ status: 'completed', limit: 5 })
    expect(ids).toHaveLength(23)
    expect(ids.sort()).toEqual(named(23).sort())
  })

  it('misses none that stays while others are taken, added and removed between the pages', async () => {
    const { queue, redis, addMany, all, claim } = await setup()
    await addMany(40)
    const { ids } = await all({ status: 'waiting', limit: 5 }, async (page) => {
      // The next two are taken, later ones join, and on page 3 the one that was shown last is removed.
      await claim()
      await claim()
      await queue.add('n', {}, { jobId: `late${page}` })
      if (page === 3) await redis.lrem(k.wait, 1, 'j14')
    })
    expect(ids.slice(0, 15)).toEqual(named(15))
    expect(new Set(ids).size).toBe(ids.length)
    // Where the last one shown is gone itself its old place holds, and the six taken before it are passed over.
    expect(ids).toEqual(expect.arrayContaining(named(19, 21)))
  })

  it('finds its place again among sorted ones when the job shown last has moved on', async () => {
    const { redis, addMany, all } = await setup()
    await addMany(12, (index) => ({ delay: 60_000 + 1000 * index }))
    const { ids } = await all({ status: 'scheduled', limit: 4 }, async (page) => {
      if (page === 1) await redis.zadd(k.delayed, 9_000_000_000_000_000, 'j3')
      if (page === 2) await redis.zrem(k.delayed, 'j7')
    })
    expect(ids).toEqual([...named(12), 'j3'])
  })

  it('looks only so far for a rare status: an empty page with a cursor, and the job on a later one', async () => {
    const { redis, addMany, list, all } = await setup()
    await addMany(600, (index) => ({ delay: 60_000 + index }))
    await redis.hset(k.job('j599'), 'atm', 1)
    const first = await list({ status: 'backing-off', limit: 1 })
    expect(first.jobs).toEqual([])
    expect(first.cursor).toBeDefined()
    const { ids } = await all({ status: 'backing-off', limit: 10 })
    expect(ids).toEqual(['j599'])
  })

  it('passes over what has no record, and what only bears the name of an exhausted one', async () => {
    const { redis, queue, all } = await setup()
    await queue.add('n', {}, { jobId: 'there' })
    await redis.lpush(k.wait, 'gone', 'meta')
    await redis.zadd(k.exhausted, 1, 'there', 2, 'gone')
    expect((await all({ status: 'waiting', limit: 1 })).ids).toEqual(['there'])
    expect((await all({ status: 'exhausted', limit: 1 })).ids).toEqual([])
  })

  it('costs no more in a queue of 100 000 jobs', async () => {
    const { redis, queue, list } = await setup()
    await queue.add('n', {}, { jobId: 'last' })
    const ids = Array.from({ length: 100_000 }, (_, index) => `x${index}`)
    for (let at = 0; at < ids.length; at += 10_000) await redis.rpush(k.wait, ...ids.slice(at, at + 10_000))
    const commands = async () => Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))?.[1])
    const before = await commands()
    const { cursor } = await list({ status: 'waiting', limit: 50 })
    expect(cursor).toBeDefined()
    expect((await commands()) - before).toBeLessThan(2000)
  })

  it('E4: refuses what it cannot read, naming it', async () => {
    const { list } = await setup()
    const bad: JobListOptions[] = [
      { status: 'asleep' as never },
      { status: '__proto__' as never },
      { limit: 0 },
      { limit: 201 },
      { limit: 1.5 },
      { cursor: '' },
      { cursor: 'x'.repeat(1000) },
      ...[['wait'], ['nowhere'], ['completed', 1, 'j'], ['completed', 'nan', 'j'], ['completed', '1'], {}, 7].flatMap(
        (parts) => ({
          ...{ status: 'completed' as const, cursor: Buffer.from(JSON.stringify(parts)).toString('base64url') },
        }),
      ),
    ]
    for (const options of bad) {
      const refused = list(options)
      await expect(refused, JSON.stringify(options)).rejects.toMatchObject({
        code: 'INPUT_INVALID',
        message: expect.stringMatching(/^(status|limit|cursor): [^\n]{1,200}$/),
      })
    }
    for (const at of ['-99999999999999999999', '1e999', '1.5', '-0']) {
      for (const [status, set] of [['waiting', 'wait'] as const, ['completed', 'completed'] as const]) {
        const cursor = Buffer.from(JSON.stringify([set, at, '\u0000'])).toString('base64url')
        expect((await list({ status, cursor })).jobs).toEqual([])
      }
    }
  })
})

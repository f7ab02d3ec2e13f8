/** What is known to wedge BullMQ's connections, in real processes (docs/known-wedges.md): the worker says nothing, the watchdog does. */
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type LogLine, until } from '../support/processes.js'
import { startProxy } from '../support/proxy.js'
import { startTestRedis } from '../support/redis.js'
import { complaints, expectInTime, QUICK_WATCH, said, watching } from '../support/watched.js'

/** What only the connection that blocks says, and as soon as it connects: the queue's name as BullMQ encodes it. */
const BLOCKING = `bull:${Buffer.from('mail').toString('base64')}`
/** What only the other connection says. */
const MAIN = 'bull:mail:pc'

/** The line of an outage comes when Redis has been silent for 4 s: twice as long as BullMQ waits for its BZPOPMIN. */
const OUTAGE = { redis: { aof: true }, watchdog: { watchdog: { intervalMs: 500, redisUnreachableAfterMs: 4000 } } }

/** A worker behind a proxy that can take the replies of one of its connections away. */
async function setup(env: NodeJS.ProcessEnv) {
  const world = await watching()
  const proxy = await startProxy(world.redis.port)
  const worker = await world.program('worker', { ...env, REDIS_URL: proxy.url })
  await blocked(world.client)
  return { ...world, proxy, worker }
}

/** Until a worker waits for jobs: by then both of its connections have spoken. */
const blocked = (client: Redis) =>
  until(
    () => client.client('LIST'),
    (list) => String(list).includes('cmd=bzpopmin'),
  )

const closing = (line: LogLine) => line.event === 'closing'

describe.each(['bullmq', 'bullmq-5'])('a connection of %s that gets no replies', (BULLMQ) => {
  it('on which BZPOPMIN never comes back is poll_stale in waitForJob, and recovered when it heals', async () => {
    const { worker, proxy, queue, ...world } = await setup({ BULLMQ })
    expect(proxy.swallow(BLOCKING)).toBe(1)
    await queue.add('send', {}, { jobId: 'one' })
    const line = await world.stuck('poll_stale')
    expect(line).toMatchObject({ subject: 'supervisor:app/loop:fetch:mail', queue: 'mail', phase: 'waitForJob' })
    expectInTime(line)
    expect(await queue.getWaitingCount()).toBe(1)
    expect(complaints(worker)).toEqual([])
    proxy.heal()
    await worker.line(said('completed', 'one'))
    expect((await world.resumed(line))['outcome']).toBe('recovered')
  })

  it('on which BZPOPMIN is lost, but which may connect anew, heals by itself and is no line', async () => {
    const { worker, proxy, queue, ...world } = await setup({ BULLMQ })
    expect(proxy.swallow('bzpopmin')).toBe(1)
    await queue.add('send', {}, { jobId: 'one' })
    await worker.line(said('completed', 'one'))
    expect(world.said()).toEqual([])
  })

  it('on which a fetch never comes back is poll_stale in moveToActive, though its job is active in Redis', async () => {
    const { worker, proxy, queue, ...world } = await setup({ BULLMQ })
    expect(proxy.swallow(MAIN)).toBe(1)
    await queue.add('send', {}, { jobId: 'one' })
    const line = await world.stuck('poll_stale')
    expect(line).toMatchObject({ subject: 'supervisor:app/loop:fetch:mail', phase: 'moveToActive' })
    expectInTime(line)
    expect(await queue.getJobCounts('waiting', 'active')).toEqual({ waiting: 0, active: 1 })
    expect(worker.lines.map(({ event }) => event)).toEqual(['ready'])
    proxy.heal()
    expect((await world.resumed(line))['outcome']).toBe('recovered')
  })
})

describe('a Redis that is away for longer than a block and the second that BullMQ grants it', () => {
  async function outage(BULLMQ: string) {
    const world = await watching(OUTAGE)
    const worker = await world.program('worker', { BULLMQ })
    await blocked(world.client)
    await world.redis.kill()
    const away = await world.stuck('redis_unreachable')
    await world.redis.restart()
    await world.resumed(away)
    await world.queue.add('send', {}, { jobId: 'one' })
    return { ...world, worker }
  }

  it('parks a worker of 6.1.0 for ever: poll_stale in waitForJob', async () => {
    const { queue, ...world } = await outage('bullmq-6.1.0')
    const line = await world.stuck('poll_stale')
    expect(line).toMatchObject({ subject: 'supervisor:app/loop:fetch:mail', phase: 'waitForJob' })
    expect(Number(line['ageMs'])).toBeGreaterThan(Number(line['thresholdMs']))
    expect(await queue.getWaitingCount()).toBe(1)
    expect(world.said()).toEqual([
      'stuck redis redis_unreachable',
      'resumed redis redis_unreachable',
      'stuck supervisor:app/loop:fetch:mail poll_stale',
    ])
  })

  it.each(['bullmq', 'bullmq-5'])(
    'is over for a worker of %s when Redis is back, without a line of its own',
    async (BULLMQ) => {
      const { worker, ...world } = await outage(BULLMQ)
      await worker.line(said('completed', 'one'))
      expect(world.said()).toEqual(['stuck redis redis_unreachable', 'resumed redis redis_unreachable'])
    },
  )
})

describe('the lock of a running job', () => {
  it('whose renewal never settles is lock_late', async () => {
    const { worker, proxy, queue, client, ...world } = await setup({ DO: 'beat', LOCK_MS: '3000' })
    await queue.add('send', {}, { jobId: 'one' })
    await worker.line(said('active', 'one'))
    expect(proxy.swallow(MAIN)).toBe(1)
    const line = await world.stuck('lock_late')
    expect(line).toMatchObject({ subject: 'supervisor:app/loop:fetch:mail', phase: 'extendLocks', thresholdMs: 3000 })
    expectInTime(line)
    await until(
      () => client.exists('bull:mail:one:lock'),
      (there) => there === 0,
    )
    expect(complaints(worker)).toEqual([])
    proxy.heal()
    worker.kill('SIGHUP')
    expect((await world.resumed(line))['outcome']).toBe('recovered')
  })

  it('that is deleted in mid-job is lock_late, while the job goes on and BullMQ lets it', async () => {
    const { queue, client, ...world } = await watching()
    const worker = await world.program('worker', { DO: 'beat', LOCK_MS: '3000' })
    await queue.add('send', {}, { jobId: 'one' })
    await worker.line(said('active', 'one'))
    expect(await client.del('bull:mail:one:lock')).toBe(1)
    const line = await world.stuck('lock_late')
    expect(line).toMatchObject({ subject: 'supervisor:app/loop:fetch:mail', phase: 'extendLocks', thresholdMs: 3000 })
    expectInTime(line)
    expect(complaints(worker)[0]).toBe('could not renew lock for job one')
    worker.kill('SIGHUP')
    expect((await world.resumed(line))['outcome']).toBe('recovered')
    expect(complaints(worker).at(-1)).toBe('Missing lock for job one. moveToFinished')
  })
})

describe('a close() that never resolves', () => {
  it('because of a job that never ends shows as that job, and resolves with it', async () => {
    const { queue, ...world } = await watching()
    const worker = await world.program('worker', { DO: 'hang' })
    await queue.add('send', {}, { jobId: 'one' })
    await worker.line(said('active', 'one'))
    worker.kill('SIGTERM')
    await worker.line(closing)
    const line = await world.stuck('job_silent')
    expect(line).toMatchObject({ subject: 'job:mail/one', step: 'wait for the bank' })
    expectInTime(line)
    expect(worker.lines.at(-1)?.event).toBe('closing')
    worker.kill('SIGHUP')
    expect(await worker.exited).toBe(0)
    await world.resumed(line)
    expect(world.said()).toEqual(['stuck job:mail/one job_silent', 'resumed job:mail/one job_silent'])
  })

  it('because its Redis hangs shows in another one, given as redisUrl: poll_stale in close', async () => {
    const { redis, ...world } = await watching()
    const frozen = await startTestRedis()
    onTestFinished(() => frozen.stop())
    const WATCH = JSON.stringify({ ...QUICK_WATCH, redisUrl: redis.url })
    const worker = await world.program('worker', { REDIS_URL: frozen.url, WATCH, DRAIN_S: '5' })
    const client = new Redis(frozen.url)
    onTestFinished(() => client.disconnect())
    await blocked(client)
    frozen.pause()
    worker.kill('SIGTERM')
    await worker.line(closing)
    const line = await world.stuck('poll_stale')
    expect(line).toMatchObject({ subject: 'supervisor:app/loop:fetch:mail', phase: 'close' })
    expectInTime(line)
    frozen.resume()
    expect(await worker.exited).toBe(0)
    expect((await world.resumed(line))['outcome']).toBe('stopped')
  })

  it.each(['bullmq', 'bullmq-5'])(
    'of %s because its Redis was gone when it began: poll_stale in close, though Redis is back',
    async (BULLMQ) => {
      const { redis, ...world } = await watching()
      const lost = await startTestRedis()
      onTestFinished(() => lost.stop())
      const WATCH = JSON.stringify({ ...QUICK_WATCH, redisUrl: redis.url })
      const worker = await world.program('worker', { BULLMQ, REDIS_URL: lost.url, WATCH })
      const client = new Redis(lost.url)
      await blocked(client)
      client.disconnect()
      await lost.kill()
      worker.kill('SIGTERM')
      await worker.line(closing)
      await lost.restart()
      const line = await world.stuck('poll_stale')
      expect(line).toMatchObject({ subject: 'supervisor:app/loop:fetch:mail', phase: 'close' })
      expectInTime(line)
      expect(worker.lines.at(-1)?.event).toBe('closing')
      worker.kill('SIGKILL')
      expect((await world.resumed(line))['outcome']).toBe('superseded')
    },
  )
})

/** Several real watchdogs, and what they say of queues (BEHAVIOURS B1, B2, B3, B8, B9, E3). */
import { resolve } from 'node:path'
import { Queue } from 'bullmq'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { type LogLine, type Running, scene, until } from '../support/processes.js'
import { startProxy } from '../support/proxy.js'

const DIE_WRITING = resolve(import.meta.dirname, '../fixtures/die-writing.mjs')
const SLOW = 'export default (job, ctx) => ctx.step("work", () => new Promise((done) => setTimeout(done, job.data.ms ?? 0)))'

const quick = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 2500 },
  heartbeat: { intervalMs: 500, timeoutMs: 2000 },
  watchdog: { intervalMs: 500, redisUnreachableAfterMs: 2000 },
}

async function setup(queues: readonly string[] = ['jobs']) {
  const stage = await scene()
  const handler = stage.handler('slow', SLOW)
  const config = stage.config('unstuck', {
    ...quick,
    queues: Object.fromEntries(
      queues.map((queue) => [queue, { handler, threads: 2, noWorkerAfterMs: 1500, notMovingAfterMs: 5500 }]),
    ),
  })
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url } })
  onTestFinished(() => dispatcher.close())
  return { ...stage, config, dispatcher }
}

const of = (event: string, cause?: string) => (line: LogLine) =>
  line.event === event && (cause === undefined || line['cause'] === cause)
const said = (watchdogs: readonly Running[], event: string) => watchdogs.flatMap((watchdog) => watchdog.lines.filter(of(event)))

/** The first watchdog of several to say it. */
const anyLine = (watchdogs: readonly Running[], fits: (line: LogLine) => boolean) =>
  until(
    async () => watchdogs.flatMap((watchdog) => watchdog.lines).find(fits),
    (line) => line !== undefined,
  )

describe('several watchdogs', () => {
  it('B1 say one STUCK and one RESUMED together, also when one is killed between finding and writing, and one is new', async () => {
    const { supervisor, watchdog, config, client } = await setup()
    const doomed = await watchdog(config, [], { preload: DIE_WRITING })
    const only = await supervisor(config, ['--name', 'only'])
    // The doomed one looks alone until it has the incident, so it is sure to be the one that finds it.
    await until(
      () => client.zscore('{unstuck}:due', 'only'),
      (score) => score !== null,
    )
    await new Promise((done) => setTimeout(done, 2500))
    only.kill('SIGSTOP')
    expect(await doomed.exited).toBe('SIGKILL')
    expect(await client.hlen('{unstuck}:open')).toBeGreaterThan(0)
    const others = await Promise.all([watchdog(config), watchdog(config)])
    const stuck = await anyLine(others, of('stuck', 'process_dead'))
    expect(stuck?.['subject']).toBe('supervisor:only')
    const late = await watchdog(config)
    only.kill('SIGCONT')
    await anyLine([...others, late], (line) => line.event === 'resumed' && line['subject'] === 'supervisor:only')
    const all = [...others, late]
    expect(said(all, 'stuck').filter((line) => line['subject'] === 'supervisor:only')).toHaveLength(1)
    expect(said(all, 'resumed').filter((line) => line['subject'] === 'supervisor:only')).toHaveLength(1)
  })

  it('B2 the line appears while the supervisor is gone for good, and a new incarnation of the name replaces it', async () => {
    const { supervisor, watchdog, config } = await setup()
    const dog = await watchdog(config)
    const first = await supervisor(config, ['--name', 'only'])
    // A fresh watchdog believes silence only after one timeout of clean looks.
    await new Promise((done) => setTimeout(done, 2500))
    first.kill('SIGKILL')
    const stuck = await dog.line(of('stuck', 'process_dead'))
    await supervisor(config, ['--name', 'only'])
    const resumed = await dog.line((line) => line.event === 'resumed' && line['subject'] === 'supervisor:only')
    expect(resumed).toMatchObject({ incidentId: stuck['incidentId'], outcome: 'replaced' })
  })

  it('B3 a flushed store is said once, and accuses nobody', async () => {
    const { supervisor, watchdog, config, client, dispatcher } = await setup()
    const dog = await watchdog(config)
    await supervisor(config, ['--name', 'one'])
    await supervisor(config, ['--name', 'two'])
    await dispatcher.addBulk('jobs', [{ data: { ms: 3000 } }, { data: { ms: 3000 } }])
    await until(
      () => client.llen('bull:jobs:active'),
      (count) => count === 2,
    )
    await client.flushall()
    const blind = await dog.line(of('stuck', 'watchdog_blind'))
    await dog.line((line) => line.event === 'resumed' && line['incidentId'] === blind['incidentId'])
    await new Promise((done) => setTimeout(done, 4000))
    expect(said([dog], 'stuck').map((line) => line['cause'])).toEqual(['watchdog_blind'])
    expect(await client.zcard('{unstuck}:due')).toBe(2)
  })
})

describe('a queue', () => {
  it('B8 with jobs and no supervisor has no eligible worker; one of another queue does not help; B9 emptied, it RESUMED as drained', async () => {
    const { supervisor, watchdog, config, dispatcher, redis } = await setup(['jobs', 'other'])
    const dog = await watchdog(config)
    await supervisor(config, ['--name', 'only', '--queue', 'other'])
    await dispatcher.add('jobs', {})
    const stuck = await dog.line(of('stuck', 'no_eligible_worker'))
    expect(stuck).toMatchObject({ subject: 'queue:jobs', queue: 'jobs', subjectKind: 'queue', thresholdMs: 1500 })
    const queue = new Queue('jobs', { connection: { url: redis.url } })
    await queue.drain()
    await queue.close()
    const resumed = await dog.line(of('resumed', 'no_eligible_worker'))
    expect(resumed).toMatchObject({ incidentId: stuck['incidentId'], outcome: 'drained' })
  })

  it('B8 whose supervisors only drain has no eligible worker; a new one ends it', async () => {
    const { supervisor, watchdog, config, dispatcher, client } = await setup()
    const dog = await watchdog(config)
    const leaving = await supervisor(config, ['--name', 'leaving'])
    await dispatcher.add('jobs', { ms: 8000 })
    await until(
      () => client.llen('bull:jobs:active'),
      (count) => count === 1,
    )
    leaving.kill('SIGTERM')
    await dispatcher.addBulk('jobs', [{}, {}])
    const stuck = await dog.line(of('stuck'))
    expect(stuck).toMatchObject({ subject: 'queue:jobs', cause: 'no_eligible_worker' })
    await supervisor(config, ['--name', 'fresh'])
    await dog.line(of('resumed', 'no_eligible_worker'))
    expect(await leaving.exited).toBe(0)
    expect(said([dog], 'stuck')).toHaveLength(1)
  })

  it('B8 that is paused, or whose supervisors are all busy, is no incident', async () => {
    const { supervisor, watchdog, config, dispatcher, redis, client } = await setup(['jobs', 'held'])
    const dog = await watchdog(config)
    await supervisor(config, ['--name', 'only', '--queue', 'jobs'])
    const queue = new Queue('held', { connection: { url: redis.url } })
    await queue.pause()
    await queue.close()
    await dispatcher.add('held', {})
    await dispatcher.addBulk(
      'jobs',
      Array.from({ length: 4 }, () => ({ data: { ms: 7000 } })),
    )
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 2,
    )
    expect(said([dog], 'stuck')).toEqual([])
  })

  it('E3 whose fetch connection lost a reply is named, and the other queue of that supervisor is not', async () => {
    const { supervisor, watchdog, config, redis, dir } = await setup(['left', 'right'])
    const proxy = await startProxy(redis.port)
    const dog = await watchdog(config)
    await supervisor(config, ['--name', 'only', '--redis', proxy.url], { cwd: dir })
    expect(proxy.swallow('bull:left:pc')).toBe(1)
    const stuck = await dog.line(of('stuck'))
    expect(stuck).toMatchObject({ cause: 'poll_stale', subject: 'supervisor:only/loop:fetch:left', queue: 'left' })
    proxy.heal()
    await dog.line(of('resumed', 'poll_stale'))
    expect(said([dog], 'stuck')).toHaveLength(1)
  })

  it('E3 whose blocking connection is silent goes on by itself, and nobody is accused', async () => {
    const { supervisor, watchdog, config, redis, dispatcher, client } = await setup()
    const proxy = await startProxy(redis.port)
    const dog = await watchdog(config)
    await supervisor(config, ['--name', 'only', '--redis', proxy.url])
    await until(
      async () => proxy.swallow('bzpopmin'),
      (hit) => hit > 0,
    )
    await dispatcher.addBulk('jobs', [{}, {}, {}])
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 3,
    )
    expect(said([dog], 'stuck')).toEqual([])
  })

  it('E3 lock renewal that never answers is lock_late of the queue, and the job goes on', async () => {
    const stage = await scene()
    const proxy = await startProxy(stage.redis.port)
    const handler = stage.handler('slow', SLOW)
    const config = stage.config('locks', {
      ...quick,
      loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 60_000 },
      queues: { jobs: { handler, threads: 1, lockDurationMs: 2000 } },
    })
    const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url } })
    onTestFinished(() => dispatcher.close())
    const dog = await stage.watchdog(config)
    await stage.supervisor(config, ['--name', 'only', '--redis', proxy.url])
    await dispatcher.add('jobs', { ms: 9000 })
    // It runs, so the claim's own reply is not what the proxy will swallow.
    await until(
      () => stage.client.hget('{unstuck}:beat:only', 'beat'),
      (beat) => beat?.includes('"step":"work"') === true,
    )
    expect(proxy.swallow('bull:jobs:pc')).toBe(1)
    const stuck = await dog.line(of('stuck'))
    expect(stuck).toMatchObject({ cause: 'lock_late', subject: 'supervisor:only/loop:fetch:jobs', thresholdMs: 2000 })
    proxy.heal()
    await until(
      () => stage.client.zcard('bull:jobs:completed'),
      (count) => count === 1,
    )
    expect(await stage.client.hget('bull:jobs:1', 'ats')).toBe('1')
  })
})

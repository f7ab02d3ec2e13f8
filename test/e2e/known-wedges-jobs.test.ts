/** What is known to wedge BullMQ's jobs, in real processes (docs/known-wedges.md): the queue stands, the worker says nothing, the watchdog does. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readBeats } from '../../src/heartbeat/redis-heartbeats.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { until } from '../support/processes.js'
import { complaints, expectInTime, said, type Watching, watching } from '../support/watched.js'

const keys = fleetKeys('{unstuck}')
const sandbox = (name: string) => pathToFileURL(join(import.meta.dirname, `../fixtures/watched/sandbox-${name}.mjs`)).href

describe.each(['bullmq', 'bullmq-5'])('a job of %s', (BULLMQ) => {
  it('whose processor never returns is job_silent, while the jobs behind it wait', async () => {
    const { queue, ...world } = await watching()
    const worker = await world.program('worker', { BULLMQ, DO: 'hang' })
    await queue.add('send', {}, { jobId: 'one' })
    await worker.line(said('active', 'one'))
    await queue.add('send', {}, { jobId: 'two' })
    const line = await world.stuck('job_silent')
    expect(line).toMatchObject({ subject: 'job:mail/one', queue: 'mail', step: 'wait for the bank', thresholdMs: 2000 })
    expectInTime(line)
    expect(await queue.getWaitingCount()).toBe(1)
    expect(complaints(worker)).toEqual([])
    worker.kill('SIGHUP')
    await worker.line(said('completed', 'two'))
    expect((await world.resumed(line))['outcome']).toBe('recovered')
    expect(world.said()).toEqual(['stuck job:mail/one job_silent', 'resumed job:mail/one job_silent'])
  })

  it('that dangles while the queue is rate limited keeps a free slot from fetching, with the main loop of before 5.53.3: poll_stale', async () => {
    const { worker, queue, ...world } = await dangling({ BULLMQ, OLD_LIMITER: '1' })
    const line = await world.stuck('poll_stale')
    expect(line).toMatchObject({ subject: 'supervisor:app/loop:fetch:mail', phase: expect.stringMatching(/^rest after /) })
    expectInTime(line)
    expect(await queue.getWaitingCount()).toBe(1)
    expect(complaints(worker)).toEqual([])
    worker.kill('SIGHUP')
    await worker.line(said('completed', 'two'))
    expect((await world.resumed(line))['outcome']).toBe('recovered')
  })

  it('that dangles while the queue is rate limited is no line with the main loop of today, and the other is fetched', async () => {
    const { worker, ...world } = await dangling({ BULLMQ })
    await worker.line(said('completed', 'two'))
    expect(world.said()).toEqual([])
  })
})

/** Two slots, one job a second: one job that beats and never ends, and one behind it. */
async function dangling(env: NodeJS.ProcessEnv) {
  const world = await watching()
  const LIMITER = JSON.stringify({ max: 1, duration: 1000 })
  const worker = await world.program('worker', { ...env, CONCURRENCY: '2', LIMITER })
  await world.queue.addBulk([
    { name: 'send', data: { do: 'beat' }, opts: { jobId: 'one' } },
    { name: 'send', data: {}, opts: { jobId: 'two' } },
  ])
  await worker.line(said('active', 'one'))
  return { ...world, worker }
}

describe('a worker that is killed in mid-job', () => {
  it('is process_dead long before BullMQ gives its job to another, and replaced when it is back', async () => {
    const { queue, ...world } = await watching()
    const worker = await world.program('worker', { DO: 'beat' })
    await queue.add('send', {}, { jobId: 'one' })
    await worker.line(said('active', 'one'))
    worker.kill('SIGKILL')
    const line = await world.stuck('process_dead')
    expect(line).toMatchObject({ subject: 'supervisor:app', supervisor: 'app' })
    expectInTime(line)
    expect(await queue.getActiveCount()).toBe(1)
    await world.program('worker')
    expect((await world.resumed(line))['outcome']).toBe('replaced')
  })
})

describe('a scheduler', () => {
  it('whose next job is missing is scheduler_overdue, though nothing waits and nothing fails', async () => {
    const loops = { pollIntervalMs: 1000, pollStaleThresholdMs: 2500 }
    const { queue, client, ...world } = await watching({ watchdog: { loops } })
    const worker = await world.program('worker')
    await queue.upsertJobScheduler('nightly', { every: 10_000 }, { name: 'report' })
    const next = await until(
      () => client.zrange('bull:mail:delayed', '0', '0'),
      (jobs) => jobs.length === 1,
    )
    // Within the 10 s until it is due: promoted, it would have been replaced by its successor.
    expect(await client.zrem('bull:mail:delayed', ...next)).toBe(1)
    await client.del(`bull:mail:${next[0]}`)
    const line = await world.stuck('scheduler_overdue')
    expect(line).toMatchObject({ subject: 'queue:mail', phase: 'scheduler nightly', thresholdMs: 5000 })
    expectInTime(line)
    const counts = await queue.getJobCounts('waiting', 'active', 'delayed', 'failed')
    expect(counts).toEqual({ waiting: 0, active: 0, delayed: 0, failed: 0 })
    expect(complaints(worker)).toEqual([])
    await queue.upsertJobScheduler('nightly', { every: 10_000 }, { name: 'report' })
    expect((await world.resumed(line))['outcome']).toBe('recovered')
  })
})

describe('a sandboxed processor', () => {
  it.each(['bullmq', 'bullmq-5'])(
    'of %s whose child is killed while it loads is job_silent, waiting for a child process',
    async (BULLMQ) => {
      const { queue, ...world } = await watching()
      const worker = await world.program('worker', { BULLMQ, SANDBOX: sandbox('dies-loading') })
      await queue.add('send', {}, { jobId: 'one' })
      await worker.line((line) => line.event === 'child')
      const line = await world.stuck('job_silent')
      expect(line).toMatchObject({ subject: 'job:mail/one', step: 'waiting for a child process' })
      expectInTime(line)
      expect(worker.lines.at(-1)?.event).toBe('child')
      worker.kill('SIGKILL')
      await world.stuck('process_dead')
      expect((await world.resumed(line))['outcome']).toBe('superseded')
    },
  )

  it.each(['bullmq', 'bullmq-5'])(
    'of %s that could not be loaded once is loaded anew for the next job, and is no line',
    async (BULLMQ) => {
      const { queue, dir, ...world } = await watching()
      const MISSING = join(dir, 'mounted')
      const worker = await world.program('worker', { BULLMQ, SANDBOX: sandbox('loads-later'), MISSING })
      await queue.add('send', {}, { jobId: 'one' })
      const failed = await worker.line(said('failed', 'one'))
      expect(failed['error']).toBe('the disk is not mounted yet')
      writeFileSync(MISSING, '')
      await queue.add('send', {}, { jobId: 'two' })
      await worker.line(said('completed', 'two'))
      expect(world.said()).toEqual([])
    },
  )
})

describe('an event loop that is blocked for longer than the locks live', () => {
  it('has its job run twice: loop_blocked names it, and the fences tell the runs apart', async () => {
    const { queue, client, dir, ...world } = await watching()
    const SPIN_UNTIL = join(dir, 'enough')
    const [LOCK_MS, STALLED_MS] = ['2000', '1000']
    const first = await world.program('worker', { DO: 'spin', SPIN_UNTIL, LOCK_MS, STALLED_MS })
    await queue.add('send', {}, { jobId: 'one' })
    await first.line(said('active', 'one'))
    const WATCH = JSON.stringify({ name: 'other' })
    const second = await world.program('worker', { DO: 'beat', WATCH, LOCK_MS, STALLED_MS })
    const line = await world.stuck('loop_blocked')
    expect(line).toMatchObject({ subject: 'supervisor:app/main', jobId: 'one' })
    await second.line(said('active', 'one'))
    const fences = await until(
      () => fencesOf(client, ['app', 'other']),
      ([, other]) => other?.length === 1,
    )
    expect(fences).toEqual([[1], [2]])
    writeFileSync(SPIN_UNTIL, '')
    expect((await world.resumed(line))['outcome']).toBe('recovered')
    const refused = await first.line((one) => one.event === 'worker_error')
    expect(refused['error']).toMatch(/^(Lock mismatch|Missing lock) for job one\./)
  })
})

const fencesOf = async (client: Watching['client'], names: readonly string[]) =>
  (await readBeats(client, keys, names)).map(({ beat }) => beat?.jobs.map(({ fence }) => fence))

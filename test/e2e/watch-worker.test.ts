/** Other people's programs with one line added, in real processes: BullMQ 5 and 6, and loops that are not BullMQ's. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readBeats } from '../../src/heartbeat/redis-heartbeats.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { until } from '../support/processes.js'
import { type Watching, watching } from '../support/watched.js'

const keys = fleetKeys('{unstuck}')
const beatOf = async ({ client }: Watching, name: string) => (await readBeats(client, keys, [name]))[0]

describe.each(['bullmq', 'bullmq-5', 'bullmq-6.1.0'])('a worker of %s with the one line', (BULLMQ) => {
  it('beats with its loop, slots and jobs, runs as before, and says goodbye at close', async () => {
    const world = await watching()
    const worker = await world.program('worker', { BULLMQ, DO: 'beat', CONCURRENCY: '2' })
    await world.queue.add('send', { to: 'a@example.org' }, { jobId: 'one' })
    const { beat } = (await until(
      () => beatOf(world, 'app'),
      (seen) => seen?.beat?.jobs.length === 1,
    )) ?? { beat: undefined }
    expect(beat?.jobs).toMatchObject([{ queue: 'mail', id: 'one', attempt: 1, fence: 1, onMain: true }])
    expect(beat?.loops).toMatchObject([{ loop: 'fetch', queue: 'mail', state: 'polling' }])
    expect(beat?.queues).toMatchObject([{ queue: 'mail', slots: 2, busy: 1, eligible: true }])
    worker.kill('SIGKILL')
    await world.stuck('process_dead')

    const other = await world.program('worker', { BULLMQ, DO: 'throw' })
    await world.queue.add('send', {}, { jobId: 'two' })
    expect(await other.line((line) => line.event === 'failed')).toMatchObject({ id: 'two', error: 'no such account' })
    other.kill('SIGTERM')
    expect(await other.exited).toBe(0)
    expect(await beatOf(world, 'app')).toMatchObject({ bye: true })
    expect(world.said()).toEqual(['stuck supervisor:app process_dead', 'resumed supervisor:app process_dead'])
  })

  it('says which job hangs, in which step and where, and resumes when it is gone', async () => {
    const world = await watching()
    const worker = await world.program('worker', { BULLMQ, DO: 'hang' })
    await world.queue.add('send', {}, { jobId: 'one' })
    const line = await world.stuck('job_silent')
    expect(line).toMatchObject({ subject: 'job:mail/one', supervisor: 'app', step: 'wait for the bank', attempt: 1 })
    expect(line.msg).toMatch(/^STUCK job:mail\/one: job_silent for .*, in step wait for the bank/)
    expect(line['dumpId']).toEqual(expect.any(String))
    worker.kill('SIGKILL')
    const dead = await world.stuck('process_dead')
    expect((await world.resumed(line))['outcome']).toBe('superseded')
    expect(dead['subject']).toBe('supervisor:app')
  })

  it('whose job blocks the event loop is loop_blocked with that job, which covers its loop', async () => {
    const world = await watching()
    await world.program('worker', { BULLMQ, DO: 'spin', SPIN_MS: '6000' })
    await world.queue.add('send', {}, { jobId: 'one' })
    const line = await world.stuck('loop_blocked')
    expect(line).toMatchObject({ subject: 'supervisor:app/main', jobId: 'one' })
    expect((await world.resumed(line))['outcome']).toBe('recovered')
    expect(world.said()).toEqual(['stuck supervisor:app/main loop_blocked', 'resumed supervisor:app/main loop_blocked'])
  })

  it('is given back by unwatch: it says goodbye and goes on working', async () => {
    const world = await watching()
    const worker = await world.program('worker', { BULLMQ })
    worker.kill('SIGUSR2')
    await worker.line((line) => line.event === 'unwatched')
    expect(await beatOf(world, 'app')).toMatchObject({ bye: true })
    await world.queue.add('send', {}, { jobId: 'one' })
    expect(await worker.line((line) => line.event === 'completed')).toMatchObject({ id: 'one' })
  })
})

describe('a sandboxed processor', () => {
  it('is seen from outside: its job, and the child that it hangs in', async () => {
    const world = await watching()
    const SANDBOX = pathToFileURL(join(import.meta.dirname, '../fixtures/watched/sandbox-hangs.mjs')).href
    await world.program('worker', { SANDBOX })
    await world.queue.add('send', {}, { jobId: 'one' })
    const line = await world.stuck('job_silent')
    expect(line).toMatchObject({ subject: 'job:mail/one', supervisor: 'app', step: expect.stringMatching(/^child \d+$/) })
  })
})

describe('two workers of one process', () => {
  it('share one sentinel and one name, each with its own loop and queue', async () => {
    const world = await watching()
    const worker = await world.program('worker', { SECOND: 'print' })
    const seen = await until(
      () => beatOf(world, 'app'),
      (one) => one?.beat?.queues.length === 2 && one.beat.queues.every(({ eligible }) => eligible),
    )
    expect(seen?.beat?.loops.map(({ loop, queue }) => [loop, queue])).toEqual([
      ['fetch', 'mail'],
      ['fetch', 'print'],
    ])
    expect(seen?.beat?.queues.map(({ queue, slots }) => [queue, slots])).toEqual([
      ['mail', 1],
      ['print', 3],
    ])
    expect(await world.client.keys('{unstuck}:beat:*')).toEqual(['{unstuck}:beat:app'])
    worker.kill('SIGTERM')
    expect(await worker.exited).toBe(0)
    expect(await beatOf(world, 'app')).toMatchObject({ bye: true })
    expect(world.said()).toEqual([])
  })
})

describe('a daemon with loops of its own', () => {
  it('whose cycle hangs behind a re-entrancy guard is poll_stale with its phase and resumes; ticks meanwhile are skipped', async () => {
    const world = await watching()
    const daemon = await world.program('daemon', { DO: 'hang' })
    const line = await world.stuck('poll_stale')
    expect(line).toMatchObject({ subject: 'supervisor:daemon/loop:dispatch', phase: 'call the API', supervisor: 'daemon' })
    const skipped = (await beatOf(world, 'daemon'))?.beat?.loops.find(({ loop }) => loop === 'dispatch')?.skipped
    expect(skipped).toBeGreaterThan(3)
    daemon.kill('SIGUSR2')
    expect((await world.resumed(line))['outcome']).toBe('recovered')
  })

  it('that lost its timer is poll_stale though nothing is in flight, and so is a pulse that stops', async () => {
    const world = await watching()
    await world.program('daemon', { DO: 'lose' })
    expect(await world.stuck('poll_stale')).toMatchObject({ supervisor: 'daemon' })
    const both = () => world.said().filter((line) => line.startsWith('stuck'))
    await until(
      async () => both(),
      (lines) => lines.length === 2,
    )
    expect(both().sort()).toEqual([
      'stuck supervisor:daemon/loop:dispatch poll_stale',
      'stuck supervisor:daemon/loop:kafka poll_stale',
    ])
  })

  it('that ends its watches ends too, after a goodbye: a watch keeps no process alive', async () => {
    const world = await watching()
    const daemon = await world.program('daemon')
    daemon.kill('SIGTERM')
    expect(await daemon.exited).toBe(0)
    expect(await beatOf(world, 'daemon')).toMatchObject({ bye: true })
    expect(world.said()).toEqual([])
  })
})

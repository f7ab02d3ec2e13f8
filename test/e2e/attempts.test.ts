/** Attempts that recover, and the orders of a person, in real processes (BEHAVIOURS C6–C8, C12, C13, D8, D13). */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher, type JobInfo } from '../../src/index.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { type LogLine, type Running, scene, until } from '../support/processes.js'

const QUEUE = 'jobs'
const k = queueKeys('bull', QUEUE)
const FAST = { loops: { pollIntervalMs: 1000 }, heartbeat: { intervalMs: 200, timeoutMs: 1500 } }
/** What the handlers of a user import. */
const UNSTUCK = JSON.stringify(pathToFileURL(resolve(import.meta.dirname, '../../dist/index.js')).href)

/** Notes what happens in one line: what, job, process, attempt, fence, time. */
const NOTING = `import { appendFileSync, existsSync, readFileSync } from 'node:fs'
  import { PermanentError, RateLimitedError } from ${UNSTUCK}
  const note = (what, job, ctx) =>
    appendFileSync('runs', [what, job.id, process.pid, job.attempt, ctx.fence, Date.now()].join(' ') + '\\n')
  const rest = (ms = 25) => new Promise((done) => setTimeout(done, ms))
  const released = async () => { while (!existsSync('release')) await rest() }
  const deeds = {`

/** @param deeds what a job does, by its name: `NAME: async (job, ctx) => { … }` */
const noting = (deeds: string) => `${NOTING}${deeds}}
  export default async (job, ctx) => {
    note('start', job, ctx)
    const result = await deeds[job.name](job, ctx)
    note('end', job, ctx)
    return result
  }`

interface Run {
  readonly what: string
  readonly id: string
  readonly pid: number
  readonly attempt: number
  readonly fence: number
  readonly at: number
}

async function setup(source: string, queue: object = {}) {
  const stage = await scene()
  const queues = { [QUEUE]: { handler: stage.handler(QUEUE, source), threads: 2, release: { perSecond: 100 }, ...queue } }
  const connect = async () => {
    const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, queues })
    onTestFinished(() => dispatcher.close())
    return dispatcher
  }
  const dispatcher = await connect()
  const path = stage.config('unstuck', { ...FAST, queues })
  const inDir = (name: string) => join(stage.dir, name)
  const runs = (): Run[] =>
    (existsSync(inDir('runs')) ? readFileSync(inDir('runs'), 'utf8') : '').split('\n').filter(Boolean).map(runOf)
  return {
    ...stage,
    connect,
    dispatcher,
    start: (name = 'one') => stage.supervisor(path, ['--name', name]),
    runs,
    /** Waits for the so-manieth note of this kind about a job. */
    noted: async (what: string, id: string, count = 1) => {
      const fitting = () => runs().filter((run) => run.what === what && run.id === id)
      return (
        await until(
          async () => fitting(),
          (found) => found.length >= count,
        )
      ).at(count - 1)
    },
    job: (id: string, fits: (job: JobInfo) => boolean) => until(() => dispatcher.job(QUEUE, id), fits),
    release: () => writeFileSync(inDir('release'), ''),
  }
}

function runOf(line: string): Run {
  const [what = '', id = '', ...numbers] = line.split(' ')
  const [pid = 0, attempt = 0, fence = 0, at = 0] = numbers.map(Number)
  return { what, id, pid, attempt, fence, at }
}

const event = (name: string) => (line: LogLine) => line.event === name
const is = (status: JobInfo['status']) => (job: JobInfo) => job.status === status

/** Ends a supervisor on purpose, so that all its gathered lines are out. */
async function stop(supervisor: Running): Promise<void> {
  supervisor.kill('SIGTERM')
  expect(await supervisor.exited).toBe(0)
}

describe('a job that its supervisors die of', () => {
  const DEEDS = `
    innocent: released,
    poison: async (job, ctx) => {
      // Never before the innocent one runs beside it.
      while (!(readFileSync('runs', 'utf8').split('\\n').filter((line) => line.startsWith('start innocent')).length >= ctx.fence)) await rest()
      process.kill(process.pid, 'SIGKILL')
      await rest(60_000)
    }`

  it('D8 runs alone after three deaths, stops as poison when it does it again, and its neighbour is cleared', async () => {
    const { start, dispatcher, runs, release, job } = await setup(noting(DEEDS))
    for (const name of ['innocent', 'poison']) await dispatcher.add(QUEUE, {}, { name, jobId: name })
    const dead: number[] = []
    for (const name of ['one', 'two', 'three']) {
      const supervisor = await start(name)
      expect(await supervisor.exited).toBe('SIGKILL')
      dead.push(supervisor.pid)
    }
    const last = await start('four')
    const poison = await job('poison', is('failed'))
    expect(poison).toMatchObject({ reason: 'waits_for_a_person', attemptsMade: 4, lastError: expect.stringMatching(/SIGKILL/) })
    expect(await dispatcher.job(QUEUE, 'innocent')).toMatchObject({ status: 'running', supervisor: 'four', attemptsMade: 3 })
    release()
    await job('innocent', is('completed'))

    const pids = (id: string) =>
      runs()
        .filter((run) => run.what === 'start' && run.id === id)
        .map((run) => run.pid)
    for (const id of ['poison', 'innocent']) {
      expect(pids(id)).toHaveLength(4)
      expect(pids(id).slice(0, 3)).toEqual(dead)
      expect(pids(id)[3]).not.toBe(last.pid)
    }
    expect(pids('poison')[3]).not.toBe(pids('innocent')[3])
    await stop(last)
    expect(last.lines.filter(event('poison'))).toMatchObject([{ jobId: 'poison' }])
  })
})

describe('an attempt that lives', () => {
  const DEEDS = `
    any: async (job, ctx) => {
      if (ctx.fence < 3) throw new Error('cannot launch')
      // Longer than three looks of the reconcile loop.
      for (const end = Date.now() + 4000; Date.now() < end; ) {
        if (job.data.beats) ctx.heartbeat()
        await rest()
      }
    }`

  it('C8 past provenAfterMs with heartbeats has its attempts set to 0 while it runs, C6 counted once; a silent one has not', async () => {
    const { start, dispatcher, client, job, noted } = await setup(noting(DEEDS), {
      attempts: { max: 4, backoffMs: [50], provenAfterMs: 800 },
    })
    const supervisor = await start()
    await dispatcher.add(QUEUE, { beats: true }, { name: 'any', jobId: 'beats' })
    await dispatcher.add(QUEUE, {}, { name: 'any', jobId: 'silent' })
    const third = await noted('start', 'beats', 3)
    expect(third).toMatchObject({ attempt: 3, fence: 3 })
    const proven = await job('beats', ({ attemptsMade }) => attemptsMade === 0)
    expect(proven).toMatchObject({ status: 'running', resets: 1, fence: 3 })
    expect(Date.now() - (third?.at ?? 0)).toBeGreaterThanOrEqual(800)
    expect(await dispatcher.job(QUEUE, 'silent')).toMatchObject({ status: 'running', attemptsMade: 2, resets: 0 })
    await job('beats', is('completed'))
    await job('silent', is('completed'))
    expect(await client.hmget(k.job('beats'), 'atm', 'unstuck:resets')).toEqual(['1', '1'])
    expect(await client.hget(k.job('silent'), 'atm')).toBe('3')
    await stop(supervisor)
    expect(supervisor.lines.filter(event('attempts_reset'))).toMatchObject([{ by: 'heartbeat', count: 1, jobIds: ['beats'] }])
  })
})

describe('a permanent failure', () => {
  const REFUSING = `import { PermanentError } from ${UNSTUCK}
    export default () => { throw new PermanentError('no such customer') }`

  it('C7 is freed by a deploy and by nothing less, whether an export was missing or the handler said so', async () => {
    const { start, dispatcher, client, job, handler } = await setup('export const nothing = 1', { attempts: { max: 3 } })
    const fails = (id: string, fence: number) => job(id, (seen) => seen.status === 'failed' && seen.fence === fence)
    const first = await start()
    for (const jobId of ['kept', 'other']) await dispatcher.add(QUEUE, {}, { name: 'any', jobId })
    for (const id of ['kept', 'other']) expect(await fails(id, 1)).toMatchObject({ reason: 'permanent', attemptsMade: 1 })
    await stop(first)
    // As if that one had failed under an older handler: when it has run again, all failed jobs have been looked at.
    await client.hset(k.job('other'), 'unstuck:settings', 'older')

    const same = await start()
    await fails('other', 2)
    expect(await fails('kept', 1)).toMatchObject({ reason: 'permanent' })
    await stop(same)
    expect(same.lines.filter(event('attempts_reset'))).toMatchObject([{ by: 'settings', count: 1 }])

    handler(QUEUE, REFUSING)
    const refusing = await start()
    expect(await fails('kept', 2)).toMatchObject({ reason: 'permanent', attemptsMade: 1, lastError: 'no such customer' })
    await fails('other', 3)
    await stop(refusing)

    handler(QUEUE, 'export default () => "fixed"')
    const fixed = await start()
    for (const id of ['kept', 'other']) await job(id, is('completed'))
    await stop(fixed)
    for (const { lines } of [refusing, fixed]) {
      const resets = lines.filter(event('attempts_reset'))
      expect(resets.map((line) => line['by'])).toEqual(resets.map(() => 'settings'))
      expect(resets.reduce((sum, line) => sum + Number(line['count']), 0)).toBe(2)
    }
  })
})

describe('a job that is cancelled while it runs', () => {
  const DEEDS = `
    polite: (job, ctx) => new Promise((done, fail) => {
      ctx.signal.addEventListener('abort', () => { note('aborted', job, ctx); fail(ctx.signal.reason) })
    }),
    stubborn: () => new Promise(() => setInterval(() => undefined, 1000)),
    pair: released`

  it('is told within 2 s; one that does not listen loses its thread after 5 s, and the supervisor goes on', async () => {
    const { start, dispatcher, client, job, noted, runs, release } = await setup(noting(DEEDS))
    const supervisor = await start()
    for (const name of ['polite', 'stubborn']) {
      await dispatcher.add(QUEUE, {}, { name, jobId: name })
      await noted('start', name)
    }
    const asked = Date.now()
    for (const id of ['polite', 'stubborn'])
      expect(await dispatcher.cancel(QUEUE, id, { reason: 'no use' })).toEqual({ state: 'stopping', supervisor: 'one' })
    expect(((await noted('aborted', 'polite'))?.at ?? 0) - asked).toBeLessThan(2000)
    expect(await job('polite', is('cancelled'))).toMatchObject({ reason: 'cancelled', why: expect.stringMatching(/no use/) })
    expect(await dispatcher.job(QUEUE, 'stubborn')).toMatchObject({ status: 'running' })
    await job('stubborn', is('cancelled'))
    expect(Date.now() - asked).toBeGreaterThanOrEqual(5000)
    expect(Date.now() - asked).toBeLessThan(9000)

    // Both threads are there again: two jobs run side by side, in the same process.
    const pair = await dispatcher.addBulk(QUEUE, [{ name: 'pair' }, { name: 'pair' }])
    for (const id of pair) expect(await noted('start', id)).toMatchObject({ pid: supervisor.pid })
    release()
    for (const id of pair) await job(id, is('completed'))
    expect(runs().filter((run) => run.what === 'start')).toHaveLength(4)
    expect(await client.llen(k.active)).toBe(0)
    await stop(supervisor)
  })
})

describe('a handler that is rate-limited', () => {
  const DEEDS = `
    limited: (job, ctx) => { if (ctx.fence === 1) throw new RateLimitedError(500) },
    next: () => undefined`

  it('C13 gives its job back uncharged, to run later and not before those that wait', async () => {
    const { start, dispatcher, client, job, runs } = await setup(noting(DEEDS), { threads: 1 })
    for (const name of ['limited', 'next']) await dispatcher.add(QUEUE, {}, { name, jobId: name })
    const supervisor = await start()
    expect(await job('limited', ({ fence, status }) => fence === 1 && status !== 'running')).toMatchObject({ attemptsMade: 0 })
    await job('limited', is('completed'))
    const starts = runs().filter((run) => run.what === 'start')
    expect(starts.map(({ id, attempt }) => [id, attempt])).toEqual([
      ['limited', 1],
      ['next', 1],
      ['limited', 1],
    ])
    expect((starts[2]?.at ?? 0) - (starts[0]?.at ?? 0)).toBeGreaterThanOrEqual(500)
    expect(await client.hmget(k.job('limited'), 'atm', 'ats')).toEqual(['1', '2'])
    await stop(supervisor)
  })
})

describe('a reset by hand', () => {
  const DEEDS = `
    any: async () => { if (!existsSync('works')) throw new Error('no network'); await released() }`

  it('C12 twice in the same moment is one reset, one run and one audit entry; while it runs it is refused and changes nothing', async () => {
    const { start, connect, dispatcher, client, dir, job, noted, runs, release } = await setup(noting(DEEDS), {
      attempts: { max: 2, backoffMs: [50], cooldownMs: 3_600_000 },
    })
    const supervisor = await start()
    const id = await dispatcher.add(QUEUE, {}, { name: 'any' })
    await job(id, is('exhausted'))
    writeFileSync(join(dir, 'works'), '')

    const askers = [dispatcher, await connect()]
    const answers = await Promise.allSettled(
      askers.map((asker, index) => asker.reset(QUEUE, id, { actor: `asker${index}`, reason: 'network is back' })),
    )
    expect(answers.filter(({ status }) => status === 'fulfilled')).toMatchObject([{ value: { attemptsBefore: 2 } }])
    expect(answers.filter(({ status }) => status === 'rejected')).toMatchObject([
      { reason: { code: expect.stringMatching(/^JOB_(FRESH|RUNNING)$/) } },
    ])
    await noted('start', id, 3)
    const snapshot = async () => [
      await client.hgetall(k.job(id)),
      await client.xrange(k.audit, '-', '+'),
      await client.keys(`${k.base}:*`),
    ]
    const before = await snapshot()
    await expect(dispatcher.reset(QUEUE, id, { reason: 'again' })).rejects.toMatchObject({ code: 'JOB_RUNNING' })
    expect(await snapshot()).toEqual(before)

    release()
    await job(id, is('completed'))
    await stop(supervisor)
    expect(runs().filter((run) => run.what === 'start')).toHaveLength(3)
    const entries = (await client.xrange(k.audit, '-', '+')).map(([, fields]) => fields.join(' '))
    expect(entries).toEqual([
      expect.stringMatching(new RegExp(`action reset jobId ${id} by hand actor asker[01] reason network is back .*attempts 2`)),
    ])
  })
})

describe('a drain', () => {
  it('D13 sends the supervisor home when what runs has ended, takes no more, and leaves the rest to others', async () => {
    const { start, dispatcher, client, job, noted, release } = await setup(noting('any: released'), { threads: 1 })
    const one = await start()
    const [running = '', waiting = ''] = await dispatcher.addBulk(QUEUE, [{ name: 'any' }, { name: 'any' }])
    await noted('start', running)
    await until(
      async () => (await dispatcher.status()).supervisors.flatMap(({ jobs }) => jobs).length,
      (jobs) => jobs === 1,
    )
    expect(await dispatcher.drain('one')).toBe(1)
    await one.line(event('stopping'))
    release()
    expect(await one.exited).toBe(0)
    await job(running, is('completed'))
    expect(await dispatcher.job(QUEUE, waiting)).toMatchObject({ attemptsMade: 0, fence: 0, reason: 'no_worker' })
    expect(await client.llen(k.active)).toBe(0)
    await expect(dispatcher.drain('one')).rejects.toMatchObject({ code: 'SUPERVISOR_GONE' })
    await start('two')
    await job(waiting, is('completed'))
  })
})

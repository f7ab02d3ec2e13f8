/** The orders of a person, through the command line, to real supervisors, and everything that can be wrong with them. */
import { Queue } from 'bullmq'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/dispatcher.js'
import { type CliResult, cli } from '../support/cli.js'
import { scene, until } from '../support/processes.js'

const WORK = `export default async (job, ctx) => {
  if (job.data.fail) throw new Error('no network')
  await ctx.step('work', () => new Promise((done, fail) => {
    const timer = setTimeout(done, job.data.ms ?? 0)
    ctx.signal.addEventListener('abort', () => { clearTimeout(timer); fail(ctx.signal.reason) })
  }))
}`

/** Long enough that it never ends by itself here. */
const LONG = { ms: 600_000 }

async function setup() {
  const { config, handler, supervisor, redis, client, dir } = await scene()
  const attempts = { max: 1, backoffMs: [1], cooldownMs: 600_000 }
  // Four failures of one group open its breaker: the first probe shows that the outage is over.
  const rules = { attempts, release: { perSecond: 50 }, breaker: { probeMs: 1000 } }
  const queues = { mail: { handler: handler('work', WORK), threads: 1, ...rules } }
  const file = config('unstuck', { queues, loops: { pollIntervalMs: 1000 } })
  const run = (...args: string[]) => cli([...args, '--config', file], { cwd: dir, env: { REDIS_URL: redis.url, USER: 'ada' } })
  const queue = new Queue('mail', { connection: { url: redis.url, maxRetriesPerRequest: null } })
  onTestFinished(() => queue.close())
  await queue.waitUntilReady()
  const dispatcher = await Dispatcher.connect({ redis: { url: redis.url } })
  onTestFinished(() => dispatcher.close())
  const reason = async (id: string) => (await dispatcher.explain('mail', id)).reason
  const comesTo = (id: string, wanted: string) =>
    until(
      () => reason(id),
      (seen) => seen === wanted,
    )
  const start = () => supervisor(file, ['--name', 'alpha'])
  const audit = async () => (await client.xrange('bull:mail:unstuck:audit', '-', '+')).map(([, fields]) => fields.join(' '))
  return { run, queue, client, redis, comesTo, start, audit, dir, file }
}

function expectRefused({ code, stdout, stderr }: CliResult, exit: number, says: RegExp): void {
  expect(stderr).toMatch(says)
  expect(stderr).toMatch(/^unstuck: [^\n]{1,1500}\n$/)
  expect(stdout).toBe('')
  expect(code).toBe(exit)
}

describe('unstuck reset', () => {
  it('puts a job back that is out of attempts, and it really runs again; who asked is kept', async () => {
    const { run, queue, start, comesTo, audit, client } = await setup()
    await start()
    await queue.add('n', { fail: true }, { jobId: 'j', attempts: 1 })
    await comesTo('j', 'cooldown')
    const shown = JSON.parse((await run('explain', 'mail', 'j', '--json')).stdout) as Record<string, unknown>
    expect(shown).toMatchObject({ status: 'exhausted', attemptsMade: 1, attemptsMax: 1, lastError: 'no network' })
    expect(JSON.stringify(shown)).not.toContain('"fail"')
    await client.hset('bull:mail:j', 'data', '{}')

    expect((await run('reset', 'mail', 'j', '--dry-run')).stdout).toBe(
      'dry run: job:mail/j: would be put back with all its attempts (1 attempt had been used)\n',
    )
    const done = await run('reset', 'mail', 'j', '--reason', 'network\nis back')
    expect(done.stdout).toMatch(/^job:mail\/j: is put back with all its attempts/)
    expect(done.code).toBe(0)
    await comesTo('j', 'completed')
    expect(await audit()).toEqual([expect.stringMatching(/action reset jobId j by hand actor cli:.+ reason network\nis back /)])
  })

  it('C10: puts all of a queue back at its pace, or those of a group', async () => {
    const { run, queue, start, client } = await setup()
    await start()
    const jobs = Array.from({ length: 6 }, (_, index) => ({
      name: 'n',
      data: { fail: true },
      opts: { jobId: `j${index}`, attempts: 1, unstuck: { group: index < 2 ? 'eu' : 'us' } } as object,
    }))
    await queue.addBulk(jobs)
    const exhausted = () => client.zcard('bull:mail:unstuck:exhausted')
    await until(exhausted, (count) => count === 6)
    for (const { opts } of jobs) await client.hset(`bull:mail:${(opts as { jobId: string }).jobId}`, 'data', '{}')

    expect((await run('reset', 'mail', '--group', 'eu')).stdout).toBe(
      'of 6 jobs of queue mail, those of group eu will be put back, 50 a second\n',
    )
    await until(
      () => queue.getCompletedCount(),
      (count) => count === 2,
    )
    expect(await exhausted()).toBe(4)
    expect((await run('reset', 'mail', '--all')).stdout).toBe('4 jobs of queue mail will be put back, 50 a second\n')
    await until(
      () => queue.getCompletedCount(),
      (count) => count === 6,
    )
    expect((await run('reset', 'mail', '--all')).stdout).toBe('queue mail has no exhausted job: nothing is put back\n')
  })
})

describe('unstuck cancel', () => {
  it('ends a job that runs, one that waits, and none that is neither', async () => {
    const { run, queue, start, comesTo } = await setup()
    await start()
    await queue.add('n', LONG, { jobId: 'long' })
    await comesTo('long', 'running')
    await queue.add('n', LONG, { jobId: 'waiting' })
    await comesTo('waiting', 'concurrency')

    expect((await run('cancel', 'mail', 'waiting', '--reason', 'no use')).stdout).toBe('job:mail/waiting: cancelled\n')
    expect((await run('explain', 'mail', 'waiting')).stdout).toMatch(/^job:mail\/waiting: cancelled by cli:.+: no use\n$/)
    expect((await run('cancel', 'mail', 'long')).stdout).toMatch(/supervisor alpha is told to stop it/)
    await comesTo('long', 'cancelled')
    expectRefused(await run('cancel', 'mail', 'long'), 1, /job:mail\/long: it is cancelled already; reset it/)

    await queue.add('n', {}, { jobId: 'next' })
    await comesTo('next', 'completed')
    expectRefused(await run('cancel', 'mail', 'next'), 1, /it has completed/)
  })
})

describe('unstuck pause, resume and drain', () => {
  it('holds a queue and lets it go, and sends a supervisor home', async () => {
    const { run, queue, start, comesTo } = await setup()
    const alpha = await start()
    expect((await run('pause', 'mail')).stdout).toMatch(/^queue mail is paused: /)
    await queue.add('n', {}, { jobId: 'j' })
    await comesTo('j', 'paused')
    expect(JSON.parse((await run('pause', 'mail', '--json')).stdout)).toEqual({
      queue: 'mail',
      action: 'pause',
      changed: false,
    })
    expect((await run('resume', 'mail')).stdout).toMatch(/^queue mail is resumed: /)
    await comesTo('j', 'completed')

    expectRefused(await run('drain', 'alhpa'), 1, /supervisor:alhpa: there is none of this name \(running: alpha\)/)
    expect((await run('drain', 'alpha')).stdout).toMatch(/^supervisor alpha is told/)
    expect(await alpha.exited).toBe(0)
    expectRefused(await run('drain', 'alpha'), 1, /supervisor:alpha: it is stopped/)
    await queue.add('n', {}, { jobId: 'left' })
    await comesTo('left', 'no_worker')
  })
})

describe('a bad order', () => {
  it('is one line that names the thing and the fix, and has changed nothing', async () => {
    const { run, queue, client } = await setup()
    await queue.add('n', {}, { jobId: 'fresh' })
    await client.sadd('{unstuck}:queues', 'mail', 'sms')
    const sms = new Queue('sms', {
      connection: { url: `redis://127.0.0.1:${client.options.port}`, maxRetriesPerRequest: null },
    })
    onTestFinished(() => sms.close())
    await sms.add('n', {}, { jobId: 'theirs' })
    const snapshot = async () => {
      const keys = (await client.keys('*')).sort()
      return Promise.all(keys.map(async (key) => [key, (await client.dumpBuffer(key))?.toString('base64')]))
    }
    const before = await snapshot()

    expectRefused(await run('reset', 'mail'), 2, /reset: which jobs\? name a job id, or give --all or --group GROUP/)
    expectRefused(await run('reset', 'mail', '--failed'), 2, /reset: which jobs\?/)
    expectRefused(await run('reset', 'mail', 'fresh', '--all'), 2, /--all: cannot stand beside a job id/)
    expectRefused(await run('reset', 'mail', '--all', '--group', 'g'), 2, /--all: cannot stand beside --group/)
    expectRefused(await run('reset', 'mail', 'fresh'), 1, /job:mail\/fresh: it waits and has used no attempt/)
    expectRefused(await run('reset', 'mail', 'theirs'), 1, /job:mail\/theirs: .*queue sms has one of this id; ask for that/)
    expectRefused(await run('reset', 'mial', 'fresh'), 2, /queue mial: Redis has never seen it \(known: mail, sms\)/)
    expectRefused(await run('explain', 'mial', 'fresh'), 2, /queue mial: Redis has never seen it/)
    expectRefused(await run('cancel', 'a:b', 'fresh'), 2, /the queue name "a:b" must be/)
    expectRefused(await run('cancel', 'mail', 'fresh', '--reason', 'x'.repeat(501)), 2, /reason: has 501 characters/)
    expectRefused(await run('reset', 'mail', '--all', '--reason', 'x'.repeat(100_000)), 2, /reason: has 100000 characters/)
    // The library is asked with all of them, in test/contract/cancel.test.ts.
    for (const id of ['wait', '', 'a\u001b[2J\nb', 'x'.repeat(100_000)]) {
      const refused = await Promise.all(['reset', 'cancel'].map((order) => run(order, 'mail', id)))
      for (const one of refused) expectRefused(one, 1, /there is no such job in the queue/)
    }
    expectRefused(await run('drain', 'x\ny'), 1, /supervisor:x\\ny: there is none of this name \(none is running\)/)
    expect(await snapshot()).toEqual(before)
  }, 120_000)
})

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Queue } from 'bullmq'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type CliOptions, cleanEnv, cli, tempFolder } from '../support/cli.js'
import { scene, unstuck, until } from '../support/processes.js'
import { startTestRedis } from '../support/redis.js'

async function setup() {
  const redis = await startTestRedis()
  onTestFinished(() => redis.stop())
  const cwd = tempFolder()
  const run = (args: readonly string[], options: CliOptions = {}) =>
    cli(args, { cwd, ...options, env: { REDIS_URL: redis.url, ...options.env } })
  const queue = (name: string) => {
    const opened = new Queue(name, { connection: { url: redis.url, maxRetriesPerRequest: null } })
    onTestFinished(() => opened.close())
    return opened
  }
  return { redis, cwd, run, queue }
}

const WAIT = `export default (job, ctx) => ctx.step('wait', () => new Promise((done) => setTimeout(done, job.data.ms ?? 0)))`

describe('unstuck enqueue', () => {
  it('adds one job with everything that its options say, and prints its id', async () => {
    const { run, queue } = await setup()
    const args = [
      '--data',
      '{"path":"a"}',
      '--name',
      'hash',
      '--job-id',
      'j-1',
      '--group',
      'g',
      '--priority',
      '3',
      '--attempts',
      '2',
    ]
    expect(await run(['enqueue', 'images', ...args])).toEqual({ code: 0, stdout: 'j-1\n', stderr: '' })
    const job = await queue('images').getJob('j-1')
    expect(job).toMatchObject({
      name: 'hash',
      data: { path: 'a' },
      opts: { priority: 3, attempts: 2, unstuck: { group: 'g' } },
    })
  })

  it('adds a job a line from a file and from standard input, in order', async () => {
    const { run, cwd, queue } = await setup()
    const lines = Array.from({ length: 1500 }, (_, n) => JSON.stringify({ jobId: `j-${n}`, data: { n } })).join('\n')
    writeFileSync(join(cwd, 'jobs.ndjson'), lines)
    const fromFile = await run(['enqueue', 'images', '--file', 'jobs.ndjson', '--json'])
    expect(fromFile.code).toBe(0)
    expect(JSON.parse(fromFile.stdout)).toHaveLength(1500)
    expect(fromFile.stderr).toContain('1500/1500')
    const fromStdin = await run(['enqueue', 'images', '--file', '-'], { input: '{"data":1,"jobId":"last"}\n' })
    expect(fromStdin).toEqual({ code: 0, stdout: 'last\n', stderr: '' })
    expect(await queue('images').getWaitingCount()).toBe(1501)
  })

  it('adds nothing of a file with one bad line, and names the line', async () => {
    const { run, cwd, queue } = await setup()
    writeFileSync(join(cwd, 'jobs.ndjson'), '{"data":1}\n{"data":2}\n{"data":\n')
    const { code, stderr } = await run(['enqueue', 'images', '--file', 'jobs.ndjson'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^unstuck: jobs\.ndjson line 3: not JSON .*\n$/)
    expect(await queue('images').getWaitingCount()).toBe(0)
  })

  it('adds nothing on a dry run', async () => {
    const { run, queue } = await setup()
    expect((await run(['enqueue', 'images', '--dry-run'])).stdout).toBe('dry run: 1 job would be added to images\n')
    expect(await queue('images').getWaitingCount()).toBe(0)
  })

  it('makes the queue known to watchdogs', async () => {
    const { run } = await setup()
    await run(['enqueue', 'nobody-serves-me'])
    const { stdout } = await run(['status', '--json'])
    expect(JSON.parse(stdout).queues).toMatchObject([{ queue: 'nobody-serves-me', waiting: 1, eligible: 0 }])
  })
})

describe('unstuck status, explain, incidents and healthcheck', () => {
  it('exits with 0 while all is well and with 1 once something is stuck, and says what', async () => {
    const { config, handler, supervisor, watchdog, redis, dir } = await scene()
    const file = config('unstuck', { queues: { mail: { handler: handler('wait', WAIT), threads: 1, silentAfterMs: 1500 } } })
    const run = (args: readonly string[]) => cli([...args, '--config', file], { cwd: dir, env: { REDIS_URL: redis.url } })
    const guard = await watchdog(file)
    await supervisor(file, ['--name', 'alpha'])

    const calm = await run(['status'])
    expect(calm.stdout).toContain('all is well')
    expect(calm.code).toBe(0)

    await run(['enqueue', 'mail', '--job-id', 'long', '--data', '{"ms":60000}'])
    await run(['enqueue', 'mail', '--job-id', 'next'])
    await guard.line((line) => line.event === 'stuck' && line['jobId'] === 'long')
    const stuck = await run(['status', '--json'])
    expect(stuck.code).toBe(1)
    expect(JSON.parse(stuck.stdout)).toMatchObject({
      supervisors: [{ name: 'alpha', state: 'running', jobs: [{ id: 'long', step: 'wait' }] }],
      incidents: [{ subject: 'job:mail/long', cause: 'job_silent' }],
      problems: ['job:mail/long: job_silent'],
    })
    expect((await run(['status'])).stdout).toContain('! job:mail/long: job_silent')
    expect((await run(['incidents', '--open'])).stdout).toMatch(/job:mail\/long +job_silent .* open +job long, step wait/)
    expect((await run(['explain', 'mail', 'long'])).stdout).toMatch(
      /^job:mail\/long: runs on supervisor alpha for .*, in step wait for/,
    )
    expect((await run(['explain', 'mail', 'next'])).stdout).toBe(
      'job:mail/next: waits: every slot of 1 supervisor is taken; it is the next to be taken\n',
    )
    expect((await run(['explain', 'mail', 'no-such'])).code).toBe(1)

    const address = guard.lines.map(({ msg }) => /http:\/\/127\.0\.0\.1:(\d+)/.exec(msg)?.[1]).find(Boolean) ?? ''
    expect((await run(['healthcheck', '--port', address])).code).toBe(0)
    guard.kill('SIGTERM')
    expect(await guard.exited).toBe(0)
    expect((await run(['healthcheck', '--port', address])).code).toBe(1)
  })

  it('status says that nobody judges when no watchdog runs', async () => {
    const { run } = await setup()
    const { code, stdout } = await run(['status'])
    expect(code).toBe(1)
    expect(stdout).toContain('watchdog: none is running')
  })
})

describe('unstuck config', () => {
  it('shows what is in force and hides secrets', async () => {
    const cwd = tempFolder()
    const env = { REDIS_URL: 'redis://user:s3cret@db.example:6379', UNSTUCK_TOKEN: 't0ken', UNSTUCK_POLL_INTERVAL_MS: '2000' }
    for (const args of [['config'], ['config', '--json']]) {
      const { code, stdout, stderr } = await cli(args, { cwd, env })
      expect(code).toBe(0)
      expect(stdout + stderr).not.toMatch(/s3cret|t0ken/)
      expect(stdout).toContain('redis://db.example:6379')
      expect(stdout).toMatch(/pollIntervalMs\W+2000/)
    }
  })
})

describe('a process that stays', () => {
  it('D13 ends with 0 on SIGTERM after what runs has finished', async () => {
    const { config, handler, supervisor, dir, redis, client } = await scene()
    const file = config('unstuck', { queues: { mail: { handler: handler('wait', WAIT), threads: 1 } } })
    const running = await supervisor(file)
    await cli(['enqueue', 'mail', '--job-id', 'j', '--data', '{"ms":1500}'], { cwd: dir, env: { REDIS_URL: redis.url } })
    await until(
      () => client.llen('bull:mail:active'),
      (active) => active === 1,
    )
    running.kill('SIGTERM')
    expect(await running.exited).toBe(0)
    expect(await client.zscore('bull:mail:completed', 'j')).not.toBeNull()
  })

  it('D13 hands back what runs on a second signal, soon and uncharged', async () => {
    const { config, handler, supervisor, dir, redis, client } = await scene()
    const file = config('unstuck', { queues: { mail: { handler: handler('wait', WAIT), threads: 1 } } })
    const running = await supervisor(file)
    await cli(['enqueue', 'mail', '--job-id', 'j', '--data', '{"ms":600000}'], { cwd: dir, env: { REDIS_URL: redis.url } })
    await until(
      () => client.llen('bull:mail:active'),
      (active) => active === 1,
    )
    running.kill('SIGTERM')
    running.kill('SIGINT')
    expect(await running.exited).toBe(0)
    expect(await client.zscore('bull:mail:delayed', 'j')).not.toBeNull()
    expect(await client.hget('bull:mail:j', 'atm')).toBeOneOf([null, '0'])
  })

  it('opens no inspector on SIGUSR1', async () => {
    const { config, handler, supervisor } = await scene()
    const running = await supervisor(config('unstuck', { queues: { mail: { handler: handler('wait', WAIT), threads: 1 } } }))
    running.kill('SIGUSR1')
    running.kill('SIGTERM')
    expect(await running.exited).toBe(0)
    expect(running.output()).not.toMatch(/Debugger|inspector/i)
  })

  it('ends quietly when its reader goes away', async () => {
    const { cwd } = await setup()
    const child = unstuck(['config'], { cwd, env: cleanEnv() })
    child.child.stdout?.destroy()
    expect(await child.exited).toBe(0)
    expect(child.output()).toBe('')
  })
})

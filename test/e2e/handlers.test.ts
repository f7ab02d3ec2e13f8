/** What handlers may do, and what becomes of those that are missing, broken or rude. Real supervisors, real threads. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Queue } from 'bullmq'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { type LogLine, scene, until } from '../support/processes.js'

const UNSTUCK = pathToFileURL(resolve(import.meta.dirname, '../../dist/index.js')).href
const BULLMQ = pathToFileURL(createRequire(import.meta.url).resolve('bullmq')).href

const fast = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 30_000 },
  heartbeat: { intervalMs: 500, timeoutMs: 2000, threadBlockedMs: 5000 },
  watchdog: { intervalMs: 500 },
}

interface SetupOptions {
  readonly queue?: object
  readonly env?: NodeJS.ProcessEnv
  /** Runs after the supervisor's start and before its threads load the handler. */
  readonly path?: string
}

/** One supervisor with the queue `jobs`. */
async function setup(source: string, { queue = {}, env = {}, path }: SetupOptions = {}) {
  const stage = await scene()
  const handler = path ?? stage.handler('jobs', source)
  const attempts = { max: 3, backoffMs: [1] }
  const queues = { jobs: { handler, threads: 1, attempts, silentAfterMs: 2000, ...queue } }
  const config = stage.config('unstuck', { ...fast, queues })
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, queues })
  onTestFinished(() => dispatcher.close())
  const { client } = stage
  const counted = (set: 'completed' | 'failed' | 'delayed', wanted: number) =>
    until(
      () => client.zcard(`bull:jobs:${set}`),
      (count) => count === wanted,
    )
  return {
    ...stage,
    handlerPath: handler,
    dispatcher,
    counted,
    job: (id: string) => client.hgetall(`bull:jobs:${id}`),
    result: async (id: string) => JSON.parse((await client.hget(`bull:jobs:${id}`, 'returnvalue')) ?? 'null') as unknown,
    release: () => writeFileSync(join(stage.dir, 'release'), ''),
    watch: () => stage.watchdog(config),
    supervisor: await stage.supervisor(config, ['--name', 's1'], { env }),
  }
}

const stuckJob = (id: string) => (line: LogLine) => line.event === 'stuck' && line['subject'] === `job:jobs/${id}`

/** Waits in a handler until the test says so. */
const UNTIL_RELEASED = `const released = async () => {
  const { existsSync } = await import('node:fs')
  while (!existsSync('release')) await new Promise((done) => setTimeout(done, 50))
}
`

describe('a handler that cannot run', () => {
  it('missing since the start is a permanent failure that names the file and the fix', async () => {
    const { dispatcher, job, counted, handlerPath } = await setup('export default () => 1')
    rmSync(handlerPath)
    const id = await dispatcher.add('jobs', {})
    await counted('failed', 1)
    expect(await job(id)).toMatchObject({
      failedReason: `handler ${handlerPath} does not exist; correct the queue's handler setting`,
      atm: '1',
    })
  })

  it('without a default export is a permanent failure that says so', async () => {
    const { dispatcher, job, counted } = await setup('export const run = () => 1')
    const id = await dispatcher.add('jobs', {})
    await counted('failed', 1)
    expect(await job(id)).toMatchObject({ failedReason: expect.stringContaining('no default export'), atm: '1' })
  })

  it('that throws while it loads may pass: repaired, the next attempt works', async () => {
    const { dispatcher, job, counted, handler } = await setup("throw new Error('no licence yet')", {
      queue: { attempts: { max: 1000, backoffMs: [100] } },
    })
    const id = await dispatcher.add('jobs', {})
    const { failedReason } = await until(
      () => job(id),
      (found) => found['failedReason'] !== undefined,
    )
    expect(failedReason).toMatch(/^handler .* threw while it was loaded: no licence yet$/)
    handler('jobs', 'export default () => 1')
    await counted('completed', 1)
  })

  it('that has a syntax error fails with the reason', async () => {
    const { dispatcher, job, counted } = await setup('export default (', { queue: { attempts: { max: 1 } } })
    const id = await dispatcher.add('jobs', {})
    await counted('failed', 1)
    expect((await job(id))['failedReason']).toMatch(/threw while it was loaded: Unexpected/)
  })
})

describe('a handler that fails', () => {
  it.each([
    ['a function', '() => 1', /it is a function/],
    ['a BigInt', '({ n: 1n })', /BigInt/],
    ['a circle', '(() => { const a = {}; a.a = a; return a })()', /circular/],
  ])('because its result is %s fails with the reason, and the rest goes on', async (_, result, reason) => {
    const { dispatcher, job, counted } = await setup(`export default (job) => job.data.fine ? 1 : ${result}`)
    const id = await dispatcher.add('jobs', {})
    await dispatcher.add('jobs', { fine: true })
    await counted('failed', 1)
    await counted('completed', 1)
    const { failedReason } = await job(id)
    expect(failedReason).toMatch(/^the handler's result cannot be stored as JSON: /)
    expect(failedReason).toMatch(reason)
  })

  it.each([
    ['PermanentError', UNSTUCK],
    ['UnrecoverableError', BULLMQ],
  ])('with %s is not tried again', async (name, module) => {
    const { dispatcher, job, counted } = await setup(
      `import { ${name} } from '${module}'\nexport default () => { throw new ${name}('never') }`,
    )
    const id = await dispatcher.add('jobs', {})
    await counted('failed', 1)
    const failed = await job(id)
    expect(failed).toMatchObject({ failedReason: 'never', atm: '1' })
    expect(failed['stacktrace']).toContain('jobs.mjs:2')
  })

  it('is tried again, each try counted once, with the name and the place of each error kept', async () => {
    const { dispatcher, job, counted } = await setup(
      "export default function pay(job) { throw new RangeError('try ' + job.attempt) }",
    )
    const id = await dispatcher.add('jobs', {})
    await counted('failed', 1)
    const failed = await job(id)
    expect(failed).toMatchObject({ failedReason: 'try 3', atm: '3', ats: '3' })
    const stacks = JSON.parse(failed['stacktrace'] ?? '[]') as string[]
    expect(stacks).toHaveLength(3)
    stacks.forEach((stack, index) => {
      expect(stack).toMatch(new RegExp(`^RangeError: try ${index + 1}\\n\\s+at pay \\(.*jobs\\.mjs:1`))
    })
  })

  it.each([
    ['DelayedError', 'soon'],
    ['WaitingError', 'soon'],
    ['WaitingChildrenError', 'soon'],
    ['Error', 'bullmq:rateLimitExceeded'],
  ])("is no command to BullMQ, whatever its error is called: %s, '%s'", async (name, message) => {
    const { dispatcher, job, counted, client } = await setup(
      `export default () => { throw Object.assign(new Error('${message}'), { name: '${name}' }) }`,
    )
    const id = await dispatcher.add('jobs', {})
    await counted('failed', 1)
    expect(await job(id)).toMatchObject({ failedReason: expect.stringContaining(message), atm: '3' })
    expect(await client.llen('bull:jobs:active')).toBe(0)
  })

  it.each([
    ['a text', "'just text'", 'the handler threw just text'],
    ['nothing', 'undefined', 'the handler threw undefined'],
  ])('by throwing %s fails with it', async (_, thrown, reason) => {
    const { dispatcher, job, counted } = await setup(`export default () => { throw ${thrown} }`)
    const id = await dispatcher.add('jobs', {})
    await counted('failed', 1)
    expect(await job(id)).toMatchObject({ failedReason: reason, atm: '3' })
  })

  it("in a job that plain BullMQ code added gets the queue's attempts and backoff all the same", async () => {
    const { redis, job, counted } = await setup("export default () => { throw new Error('no') }")
    const queue = new Queue('jobs', { connection: { url: redis.url } })
    onTestFinished(() => queue.close())
    const { id = '' } = await queue.add('plain', { a: 1 })
    await counted('failed', 1)
    expect(await job(id)).toMatchObject({ atm: '3', failedReason: 'no' })
  })
})

describe('what a handler gets', () => {
  it('is its job and its fence, which grows with each claim', async () => {
    const { dispatcher, result, counted } = await setup(
      `export default (job, ctx) => {
        if (job.attempt === 1) throw new Error('once more')
        return { ...job, fence: ctx.fence }
      }`,
    )
    const id = await dispatcher.add('jobs', { to: 'x', deep: { list: [1, null] } }, { name: 'invoice', group: 'site-a' })
    await counted('completed', 1)
    expect(await result(id)).toEqual({
      id,
      name: 'invoice',
      queue: 'jobs',
      data: { to: 'x', deep: { list: [1, null] } },
      group: 'site-a',
      attempt: 2,
      fence: 2,
    })
  })

  it('E4 are __proto__ keys as data, that pollute nothing', async () => {
    const { dispatcher, result, counted } = await setup(
      'export default ({ data }) => ({ own: Object.keys(data), polluted: ({}).polluted ?? false })',
    )
    const id = await dispatcher.add('jobs', JSON.parse('{"__proto__":{"polluted":true},"a":1}'))
    await counted('completed', 1)
    expect(await result(id)).toEqual({ own: ['__proto__', 'a'], polluted: false })
  })

  it('is a log whose lines name the job', async () => {
    const { dispatcher, supervisor } = await setup("export default (job, { log }) => log.warn('low on ink')")
    const id = await dispatcher.add('jobs', {})
    const line = await supervisor.line(({ event }) => event === 'job_log')
    expect(line).toMatchObject({ level: 40, msg: 'low on ink', queue: 'jobs', jobId: id, attempt: 1 })
  })

  it('are steps: the STUCK line names the innermost, and the outer one again when that has ended', async () => {
    const { dispatcher, watch, release, counted, result } = await setup(
      `${UNTIL_RELEASED}
      export default (job, ctx) => ctx.step('outer', async () => {
        const inner = await ctx.step('inner', async () => { if (job.name === 'in') await released(); return 'value' })
        if (job.name === 'out') await released()
        return inner
      })`,
      { queue: { threads: 2 } },
    )
    const dog = await watch()
    const within = await dispatcher.add('jobs', {}, { name: 'in' })
    const after = await dispatcher.add('jobs', {}, { name: 'out' })
    expect((await dog.line(stuckJob(within)))['step']).toBe('inner')
    expect((await dog.line(stuckJob(after)))['step']).toBe('outer')
    release()
    await counted('completed', 2)
    expect(await result(after)).toBe('value')
  })

  it('D11 is a heartbeat: the same progress token for ever is no sign of life, a changing one is', async () => {
    const { dispatcher, watch, release, counted } = await setup(
      `import { existsSync } from 'node:fs'
      export default async (job, ctx) => {
        for (let turn = 0; !existsSync('release'); turn += 1) {
          ctx.heartbeat(job.name === 'same' ? 'page 7' : 'page ' + turn)
          await new Promise((done) => setTimeout(done, 50))
        }
      }`,
      { queue: { threads: 2 } },
    )
    const dog = await watch()
    const moving = await dispatcher.add('jobs', {}, { name: 'moving' })
    const same = await dispatcher.add('jobs', {}, { name: 'same' })
    expect((await dog.line(stuckJob(same)))['cause']).toBe('job_silent')
    release()
    await counted('completed', 2)
    expect(dog.lines.filter(stuckJob(moving))).toEqual([])
  })

  it('may be TypeScript when tsx is installed where it lies', async () => {
    const dir = mkdtempSync(resolve(import.meta.dirname, '../.tmp-'))
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
    const path = join(dir, 'jobs.ts')
    writeFileSync(
      path,
      `import { type Kind, kinds } from './kinds.js'
      enum Colour { Red = 'red' }
      export default async (job: { data: { n: number } }): Promise<[Kind, Colour, number]> => [kinds[0], Colour.Red, job.data.n]`,
    )
    writeFileSync(join(dir, 'kinds.ts'), "export type Kind = 'a' | 'b'\nexport const kinds: [Kind] = ['a']")
    const { dispatcher, result, counted } = await setup('', { path })
    const id = await dispatcher.add('jobs', { n: 7 })
    await counted('completed', 1)
    expect(await result(id)).toEqual(['a', 'red', 7])
  })
})

describe('a queue', () => {
  it('runs 2 000 small jobs, each once, and all counts agree', async () => {
    const { dispatcher, client, counted, supervisor } = await setup('export default ({ data }) => data.n', {
      queue: { threads: 2, jobsPerThread: 10 },
    })
    const started = await supervisor.line(({ event }) => event === 'started')
    const ids = await dispatcher.addBulk(
      'jobs',
      Array.from({ length: 2000 }, (_, n) => ({ data: { n } })),
    )
    await counted('completed', 2000)
    const fields = await Promise.all(ids.map((id) => client.hmget(`bull:jobs:${id}`, 'returnvalue', 'atm', 'ats')))
    expect(fields).toEqual(ids.map((_, n) => [String(n), '1', '1']))
    expect(await client.exists('bull:jobs:active', 'bull:jobs:wait', 'bull:jobs:failed', 'bull:jobs:delayed')).toBe(0)
    const metrics = await (await fetch(`http://127.0.0.1:${started['port']}/metrics`)).text()
    expect(metrics).toContain('unstuck_attempts_total{queue="jobs",outcome="success"} 2000')
    expect(metrics).toContain('unstuck_attempts_total{queue="jobs",outcome="transient"} 0')
    expect(metrics).toMatch(/unstuck_job_duration_seconds_count\{queue="jobs"\} 2000\n/)
    expect(metrics).toMatch(/unstuck_job_wait_seconds_count\{queue="jobs"\} 2000\n/)
  })

  it('E4 takes ids of every printable byte but the colon, runs them, and names them rightly in STUCK lines', async () => {
    const bytes = Array.from({ length: 0x7f - 0x20 }, (_, index) => String.fromCharCode(0x20 + index))
    const ids = [...bytes.filter((byte) => byte !== ':').map((byte) => `a${byte}b`), ' ', 'ünï-€-😀', '__proto__']
    const { dispatcher, watch, release, counted, result } = await setup(
      `${UNTIL_RELEASED}\nexport default async (job) => { await released(); return job.id }`,
      { queue: { threads: 1, jobsPerThread: 128 } },
    )
    const dog = await watch()
    await dispatcher.addBulk(
      'jobs',
      ids.map((jobId) => ({ jobId })),
    )
    for (const id of ids) expect(await dog.line(stuckJob(id))).toMatchObject({ jobId: id, cause: 'job_silent' })
    release()
    await counted('completed', ids.length)
    expect(await Promise.all(ids.map(result))).toEqual(ids)
  })

  it('E5 never shows job data or environment in any log, whatever goes wrong', async () => {
    const secret = 'hunter2-4711'
    const { dispatcher, watch, supervisor, release, counted } = await setup(
      `${UNTIL_RELEASED}
      export default async (job, ctx) => {
        if (job.name === 'fail') throw new Error('no: ' + JSON.stringify(job.data))
        if (job.name === 'object') throw job.data
        if (job.name === 'result') return { data: job.data, n: 1n }
        if (job.name === 'exit') process.exit(1)
        await ctx.step('hold', released)
        return job.data
      }`,
      { env: { UNSTUCK_LOG_LEVEL: 'trace', MY_TOKEN: secret }, queue: { threads: 2, attempts: { max: 2, backoffMs: [1] } } },
    )
    const dog = await watch()
    const names = ['fail', 'object', 'result', 'exit']
    await dispatcher.addBulk(
      'jobs',
      // Each of a group of its own: together they would open the breaker, and be parked.
      names.map((name) => ({ name, group: name, data: { password: secret } })),
    )
    await counted('failed', names.length)
    const id = await dispatcher.add('jobs', { password: secret }, { name: 'hold' })
    await dog.line(stuckJob(id))
    release()
    await counted('completed', 1)
    supervisor.kill('SIGTERM')
    expect(await supervisor.exited).toBe(0)
    for (const running of [supervisor, dog]) expect(running.output()).not.toContain(secret)
  })
})

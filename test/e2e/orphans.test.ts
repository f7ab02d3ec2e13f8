/** Orphans by knowledge: what becomes of jobs when their supervisor or Redis goes away (BEHAVIOURS B3, D1, D9, D10, D13). */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { type LogLine, scene, until } from '../support/processes.js'

/** Notes each start and end in a file of its own name, so that a test can count runs; works until told to stop. */
const NOTING = `import { appendFileSync, existsSync } from 'node:fs'
  export default async (job, ctx) => {
    appendFileSync('runs', \`start \${job.id} \${process.pid} \${ctx.fence}\\n\`)
    while (!existsSync('release') && !ctx.signal.aborted) {
      ctx.heartbeat()
      await new Promise((done) => setTimeout(done, 50))
    }
    appendFileSync('runs', \`\${ctx.signal.aborted ? 'aborted' : 'end'} \${job.id} \${process.pid} \${ctx.fence}\\n\`)
    return ctx.fence
  }`

async function setup(queue: object = {}, more: object = {}) {
  const stage = await scene()
  const queues = { jobs: { handler: stage.handler('jobs', NOTING), threads: 4, ...queue } }
  const config = { queues, ...more }
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, queues })
  onTestFinished(() => dispatcher.close())
  return {
    ...stage,
    dispatcher,
    config: stage.config('unstuck', config),
    runs: () => readRuns(stage.dir),
    release: () => writeFileSync(join(stage.dir, 'release'), ''),
  }
}

function readRuns(dir: string) {
  let text = ''
  try {
    text = readFileSync(join(dir, 'runs'), 'utf8')
  } catch {
    // Nothing has run yet.
  }
  return text
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [what = '', id = '', pid = '', fence = ''] = line.split(' ')
      return { what, id, pid: Number(pid), fence: Number(fence) }
    })
}

const event = (name: string) => (line: LogLine) => line.event === name

describe('a supervisor that is lost', () => {
  it('D4 after kill -9 its jobs run elsewhere within 15 s with the defaults, charged once', async () => {
    const { supervisor, config, client, dispatcher, runs, release } = await setup()
    const first = await supervisor(config, ['--name', 'first'])
    await dispatcher.addBulk('jobs', [{}, {}, {}])
    await until(
      async () => runs().length,
      (count) => count === 3,
    )
    await supervisor(config, ['--name', 'second'])
    first.kill('SIGKILL')
    const killedAt = performance.now()
    const all = await until(
      async () => runs().filter((run) => run.what === 'start'),
      (starts) => starts.length === 6,
      16_000,
    )
    expect(performance.now() - killedAt).toBeLessThan(15_000)
    expect(all.slice(3).map((run) => run.fence)).toEqual([2, 2, 2])
    release()
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 3,
    )
    // One for the attempt that was lost, one for the attempt that succeeded.
    expect(await client.hget('bull:jobs:1', 'atm')).toBe('2')
  })

  it('D9 a supervisor that was taken for dead (SIGSTOP) and comes back is fenced off: its run aborts, its result is refused', async () => {
    const { supervisor, config, client, dispatcher, runs, release } = await setup({ lockDurationMs: 3000 }, fast)
    const first = await supervisor(config, ['--name', 'first'])
    await dispatcher.add('jobs', {})
    await until(
      async () => runs().length,
      (count) => count === 1,
    )
    await supervisor(config, ['--name', 'second'])
    first.kill('SIGSTOP')
    await until(
      async () => runs().filter((run) => run.what === 'start'),
      (starts) => starts.length === 2,
    )
    first.kill('SIGCONT')
    const aborted = await until(
      async () => runs().find((run) => run.what === 'aborted'),
      (run) => run !== undefined,
    )
    expect(aborted).toMatchObject({ pid: first.pid, fence: 1 })
    expect(await client.llen('bull:jobs:active')).toBe(1)
    release()
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 1,
    )
    expect(await client.hget('bull:jobs:1', 'returnvalue')).toBe('2')
    expect(runs().filter((run) => run.what === 'start')).toHaveLength(2)
  })

  it('B3 D9 Redis away for longer than the locks live starts no job beside its live run', async () => {
    const { supervisor, watchdog, config, client, dispatcher, runs, release, redis } = await setup(
      { lockDurationMs: 2000 },
      fast,
    )
    const dog = await watchdog(config)
    await supervisor(config, ['--name', 'first'])
    await supervisor(config, ['--name', 'second'])
    await dispatcher.addBulk('jobs', [{}, {}, {}, {}, {}, {}])
    await until(
      async () => runs().length,
      (count) => count === 6,
    )
    redis.pause()
    await dog.line((line) => line.event === 'stuck' && line['cause'] === 'redis_unreachable')
    await new Promise((done) => setTimeout(done, 6000))
    redis.resume()
    await dog.line((line) => line.event === 'resumed' && line['subject'] === 'redis')
    // Long enough for a reaper to make its mistake: two timeouts and two reconcile intervals.
    await new Promise((done) => setTimeout(done, 6000))
    expect(runs().filter((run) => run.what === 'start')).toHaveLength(6)
    release()
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 6,
    )
    expect(runs()).toHaveLength(12)
    expect(await client.hget('bull:jobs:1', 'atm')).toBe('1')
    const stuck = dog.lines.filter(event('stuck')).map((line) => line['cause'])
    expect(stuck).toEqual(['redis_unreachable'])
  })

  it('a job that Redis made active and nobody began (its reply was lost) is disowned and runs again', async () => {
    const { supervisor, config, client, dispatcher, runs, release } = await setup({}, fast)
    const first = await supervisor(config, ['--name', 'first'])
    await dispatcher.add('jobs', {})
    await until(
      async () => runs().length,
      (count) => count === 1,
    )
    const owner = await client.hget('bull:jobs:1', 'pb')
    // What a lost reply leaves behind: active, locked, claimed by a live owner that knows nothing of it.
    await client.hset('bull:jobs:lost1', {
      name: 'jobs',
      data: '{}',
      opts: '{"attempts":3}',
      timestamp: '1',
      delay: '0',
      priority: '0',
      ats: '1',
      pb: owner ?? '',
    })
    await client.set('bull:jobs:lost1:lock', 'somebody:1', 'PX', 60_000)
    await client.lpush('bull:jobs:active', 'lost1')
    await until(
      async () => runs().find((run) => run.id === 'lost1'),
      (run) => run !== undefined,
    )
    expect((await first.line(event('orphan_reaped')))['reason']).toBe('disowned')
    release()
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 2,
    )
  })
})

/** Detection within a few seconds, for tests that do not measure the defaults. */
const fast = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 30_000 },
  heartbeat: { intervalMs: 500, timeoutMs: 2000 },
  watchdog: { intervalMs: 500, redisUnreachableAfterMs: 2000 },
}

describe('two supervisors', () => {
  it('D1 one job is claimed by one of them, and the cap on running jobs holds', async () => {
    const { supervisor, config, client, dispatcher, runs, release } = await setup({ threads: 2 }, fast)
    await Promise.all([supervisor(config, ['--name', 'first']), supervisor(config, ['--name', 'second'])])
    await dispatcher.addBulk(
      'jobs',
      Array.from({ length: 40 }, () => ({})),
    )
    await until(
      async () => runs().length,
      (count) => count === 4,
    )
    expect(await client.llen('bull:jobs:active')).toBe(4)
    release()
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 40,
    )
    const starts = runs()
      .filter((run) => run.what === 'start')
      .map((run) => run.id)
    expect(new Set(starts).size).toBe(40)
    expect(starts).toHaveLength(40)
  })
})

/** Ignores its signal. */
const STUBBORN = 'export default () => new Promise(() => setInterval(() => {}, 1000))'

describe('a clean stop', () => {
  it('D13 SIGTERM takes no more, waits for what runs, exits 0, and nothing is STUCK', async () => {
    const { supervisor, watchdog, config, client, dispatcher, runs, release } = await setup({ threads: 1 }, fast)
    const dog = await watchdog(config)
    const only = await supervisor(config, ['--name', 'only'])
    await dispatcher.addBulk('jobs', [{}, {}])
    await until(
      async () => runs().length,
      (count) => count === 1,
    )
    only.kill('SIGTERM')
    await until(
      () => client.hget('{unstuck}:beat:only', 'beat'),
      (beat) => beat?.includes('"state":"draining"') === true,
    )
    release()
    expect(await only.exited).toBe(0)
    expect(await client.zcard('bull:jobs:completed')).toBe(1)
    expect(await client.llen('bull:jobs:wait')).toBe(1)
    await until(
      () => client.zscore('{unstuck}:due', 'only'),
      (score) => score === null,
    )
    expect(dog.lines.filter(event('stuck'))).toEqual([])
  })

  it('D13 what does not end within the grace is handed back uncharged, to delayed', async () => {
    const { supervisor, config, client, dispatcher, handler } = await setup({}, { ...fast, supervisor: { drainMs: 500 } })
    handler('jobs', STUBBORN)
    const only = await supervisor(config, ['--name', 'only'])
    await dispatcher.add('jobs', {}, { jobId: 'stubborn' })
    await until(
      () => client.llen('bull:jobs:active'),
      (count) => count === 1,
    )
    only.kill('SIGTERM')
    expect(await only.exited).toBe(0)
    expect(await client.zcard('bull:jobs:delayed')).toBe(1)
    expect(await client.hget('bull:jobs:stubborn', 'atm')).toBeNull()
    expect(await client.llen('bull:jobs:active')).toBe(0)
  })

  it('D13 a second signal forces', async () => {
    const { supervisor, config, client, dispatcher, handler } = await setup({}, { ...fast, supervisor: { drainMs: 600_000 } })
    handler('jobs', STUBBORN)
    const only = await supervisor(config, ['--name', 'only'])
    await dispatcher.add('jobs', {})
    await until(
      () => client.llen('bull:jobs:active'),
      (count) => count === 1,
    )
    only.kill('SIGTERM')
    await until(
      () => client.hget('{unstuck}:beat:only', 'beat'),
      (beat) => beat?.includes('"state":"draining"') === true,
    )
    only.kill('SIGTERM')
    expect(await only.exited).toBe(0)
    expect(await client.zcard('bull:jobs:delayed')).toBe(1)
  })
})

describe('a thread that goes wrong', () => {
  const BAD = `export default async (job, ctx) => {
    if (job.name === 'exit') process.exit(3)
    if (job.name === 'memory') { const all = []; for (;;) all.push(new Array(100_000).fill(job.id)) }
    if (job.name === 'spin') await ctx.step('spin', () => { for (;;); })
    if (job.name === 'hold') for (let left = 600; left > 0 && job.attempt === 1 && ctx.fence === 1; left -= 1) await new Promise((done) => setTimeout(done, 50))
    if (job.name === 'crash') { setImmediate(() => { throw new Error('from a timer') }); await new Promise(() => {}) }
    return 'fine'
  }`

  async function bad(queue: object) {
    const stage = await setup(
      { threads: 2, attempts: { max: 1 }, ...queue },
      { ...fast, heartbeat: { ...fast.heartbeat, threadBlockedMs: 1000 } },
    )
    stage.handler('jobs', BAD)
    const first = await stage.supervisor(stage.config, ['--name', 'first'], {
      env: { NODE_OPTIONS: '--max-old-space-size=128' },
    })
    const state = async (id: string) => ({
      reason: await stage.client.hget(`bull:jobs:${id}`, 'failedReason'),
      atm: await stage.client.hget(`bull:jobs:${id}`, 'atm'),
    })
    return { ...stage, first, state }
  }

  it.each([
    ['exit', /exited with code 3/],
    ['memory', /out of memory/],
    ['crash', /from a timer/],
  ])('D10 %s in a thread fails that job with the reason, and jobs on other threads go on', async (name, reason) => {
    const { client, dispatcher, state } = await bad({})
    const [id = ''] = await dispatcher.addBulk('jobs', [{ name }, ...Array.from({ length: 20 }, () => ({ name: 'fine' }))])
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 20,
    )
    await until(
      () => client.zcard('bull:jobs:failed'),
      (count) => count === 1,
    )
    expect(await state(id)).toEqual({ reason: expect.stringMatching(reason), atm: '1' })
  })

  it('D10 with terminate a thread that never returns is killed and replaced, and its attempt counted once', async () => {
    const { client, dispatcher, state, first } = await bad({ onStuck: 'terminate' })
    const ids = await dispatcher.addBulk('jobs', [{ name: 'spin' }, { name: 'spin' }])
    await until(
      () => client.zcard('bull:jobs:failed'),
      (count) => count === 2,
    )
    for (const id of ids)
      expect(await state(id)).toEqual({
        reason: expect.stringMatching(/thread terminated: thread_blocked for \d+ s/),
        atm: '1',
      })
    expect(first.lines.filter(event('terminated'))).toHaveLength(2)
    // Both places are filled again: two jobs run side by side.
    await dispatcher.addBulk('jobs', [{ name: 'fine' }, { name: 'fine' }])
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 2,
    )
  })

  it('D10 with several jobs a thread the culprit is charged and its neighbours are handed back uncharged', async () => {
    const { client, dispatcher, state } = await bad({
      threads: 1,
      jobsPerThread: 3,
      onStuck: 'terminate',
      attempts: { max: 3, backoffMs: [600_000] },
    })
    const [one = '', two = ''] = await dispatcher.addBulk('jobs', [{ name: 'hold' }, { name: 'hold' }])
    await until(
      () => client.llen('bull:jobs:active'),
      (count) => count === 2,
    )
    const culprit = await dispatcher.add('jobs', {}, { name: 'spin' })
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 2,
    )
    for (const id of [one, two]) expect(await state(id)).toEqual({ reason: null, atm: '1' })
    expect(await state(culprit)).toEqual({ reason: expect.stringMatching(/thread terminated/), atm: '1' })
  })

  it('D10 with report it is left alone', async () => {
    const { client, dispatcher, watchdog, config, first } = await bad({ onStuck: 'report' })
    const dog = await watchdog(config)
    await dispatcher.add('jobs', {}, { name: 'spin' })
    const line = await dog.line((found) => found.event === 'stuck')
    expect(line['cause']).toBe('thread_blocked')
    await dispatcher.addBulk('jobs', [{ name: 'fine' }, { name: 'fine' }])
    await until(
      () => client.zcard('bull:jobs:completed'),
      (count) => count === 2,
    )
    expect(await client.llen('bull:jobs:active')).toBe(1)
    expect(first.lines.filter(event('terminated'))).toEqual([])
  })
})

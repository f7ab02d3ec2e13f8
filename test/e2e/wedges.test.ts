/** BEHAVIOURS A8, A9, E3: each wedge of a real supervisor is found from outside, under its own cause and subject. */
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type LogLine, type Running, scene, until } from '../support/processes.js'
import { startProxy } from '../support/proxy.js'

const WEDGE = resolve(import.meta.dirname, '../fixtures/wedge-main.mjs')
const NOOP = 'export default async () => 1'

/** Short thresholds, so that a wedge shows within seconds. */
const quick = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 2500, startGraceMs: 2500 },
  heartbeat: { intervalMs: 500, timeoutMs: 2000, loopBlockedMs: 1500, threadBlockedMs: 1500 },
  watchdog: { intervalMs: 500, redisUnreachableAfterMs: 2000 },
}

async function setup(handler = NOOP, queue: object = {}) {
  const stage = await scene()
  const proxy = await startProxy(stage.redis.port)
  const queues = {
    jobs: { handler: stage.handler('jobs', handler), threads: 2, silentAfterMs: 2000, notMovingAfterMs: 6000, ...queue },
  }
  const watchdog = await stage.watchdog(stage.config('watchdog', { ...quick, queues }))
  const config = stage.config('supervisor', { ...quick, queues, supervisor: { name: 's1' } }, proxy.url)
  return {
    ...stage,
    proxy,
    watchdog,
    start: (env: NodeJS.ProcessEnv = {}) => stage.supervisor(config, [], { env, preload: WEDGE }),
  }
}

const stuck = (cause: string) => (line: LogLine) => line.event === 'stuck' && line['cause'] === cause
const resumed = (subject: unknown) => (line: LogLine) => line.event === 'resumed' && line['subject'] === subject
const transitions = (watchdog: Running) =>
  watchdog.lines
    .filter((line) => line.event === 'stuck' || line.event === 'resumed')
    .map((line) => `${line.event} ${line['subject']} ${line['cause']}`)

describe('a supervisor seen from outside', () => {
  it('A8 a while(true) in the main thread is loop_blocked of its main event loop, and covers its loops', async () => {
    const { watchdog, start } = await setup()
    const supervisor = await start({ WEDGE: 'spin', WEDGE_MS: '4500' })
    supervisor.kill('SIGUSR2')
    const line = await watchdog.line(stuck('loop_blocked'))
    expect(line['subject']).toBe('supervisor:s1/main')
    expect(line.msg).toMatch(/^STUCK supervisor:s1\/main: loop_blocked for \d/)
    const end = await watchdog.line(resumed('supervisor:s1/main'))
    expect(end['outcome']).toBe('recovered')
    expect(end['incidentId']).toBe(line['incidentId'])
    expect(transitions(watchdog)).toEqual(['stuck supervisor:s1/main loop_blocked', 'resumed supervisor:s1/main loop_blocked'])
  })

  it('A8 a stopped process (SIGSTOP) is process_dead, and recovered when it goes on', async () => {
    const { watchdog, start } = await setup()
    const supervisor = await start()
    supervisor.kill('SIGSTOP')
    const line = await watchdog.line(stuck('process_dead'))
    expect(line['subject']).toBe('supervisor:s1')
    supervisor.kill('SIGCONT')
    const end = await watchdog.line(resumed('supervisor:s1'))
    expect(end['outcome']).toBe('recovered')
    expect(end['durationMs']).toBeGreaterThan(0)
  })

  it('A8 E3 a reply swallowed on the fetch connection is poll_stale of that queue, with its phase', async () => {
    const { watchdog, start, proxy } = await setup()
    await start()
    expect(proxy.swallow('bull:jobs:pc')).toBe(1)
    const line = await watchdog.line(stuck('poll_stale'))
    expect(line).toMatchObject({
      subject: 'supervisor:s1/loop:fetch:jobs',
      queue: 'jobs',
      phase: 'moveToActive',
      supervisor: 's1',
    })
    expect(line.msg).toMatch(/, in moveToActive$/)
    proxy.heal()
    expect((await watchdog.line(resumed('supervisor:s1/loop:fetch:jobs')))['outcome']).toBe('recovered')
  })

  it('A8 a hung await in reconcile is poll_stale of the reconcile loop, and jobs go on', async () => {
    const { watchdog, start, proxy, client } = await setup()
    await start()
    await until(
      () => client.exists('bull:jobs:unstuck:lease'),
      (there) => there === 1,
    )
    expect(proxy.swallow('unstuck:lease')).toBe(1)
    const line = await watchdog.line(stuck('poll_stale'))
    expect(line['subject']).toBe('supervisor:s1/loop:reconcile')
    expect(line['phase']).toMatch(/^(lease|measure|find orphans|reap|)$/)
    proxy.heal()
    await watchdog.line(resumed('supervisor:s1/loop:reconcile'))
  })

  it('A8 a lost timer is poll_stale though nothing is in flight', async () => {
    const { watchdog, start } = await setup()
    const supervisor = await start({ WEDGE: 'lose-timer', WEDGE_MS: '1000' })
    supervisor.kill('SIGUSR2')
    const line = await watchdog.line(stuck('poll_stale'))
    expect(line['subject']).toBe('supervisor:s1/loop:reconcile')
  })

  it('A9 the step of a job and its age are in the STUCK line of a blocked thread, which covers its job', async () => {
    const spin = `export default async (job, ctx) => { await ctx.step('charge', () => { const end = Date.now() + 5000; while (Date.now() < end); }) }`
    const { watchdog, start, dir, config, redis } = await setup(spin)
    await start()
    const { unstuck } = await import('../support/processes.js')
    const added = unstuck(['enqueue', 'jobs', '--config', config('add', {}), '--redis', redis.url], { cwd: dir })
    expect(await added.exited).toBe(0)
    const line = await watchdog.line(stuck('thread_blocked'))
    expect(line['subject']).toMatch(/^supervisor:s1\/thread:jobs:[12]$/)
    expect(line).toMatchObject({ queue: 'jobs', jobId: '1', attempt: 1, step: 'charge' })
    expect(line.msg).toMatch(/in step charge \(\d/)
    const end = await watchdog.line(resumed(line['subject']))
    expect(end['outcome']).toBe('recovered')
    expect(transitions(watchdog).filter((text) => text.includes('job_silent'))).toEqual([])
  })

  it('A9 an await that never settles is job_silent with its step, and the process stays healthy', async () => {
    const hang = `import { existsSync } from 'node:fs'
      export default async (job, ctx) => { await ctx.step('fetch rates', () => new Promise((done) => {
        const timer = setInterval(() => { if (existsSync('release')) { clearInterval(timer); done() } }, 100) })) }`
    const { watchdog, start, dir, config, redis } = await setup(hang)
    await start()
    const { unstuck } = await import('../support/processes.js')
    expect(await unstuck(['enqueue', 'jobs', '--config', config('add', {}), '--redis', redis.url], { cwd: dir }).exited).toBe(0)
    const line = await watchdog.line(stuck('job_silent'))
    expect(line).toMatchObject({ subject: 'job:jobs/1', step: 'fetch rates', thresholdMs: 2000 })
    expect(line['ageMs']).toBeGreaterThan(2000)
    const { writeFileSync } = await import('node:fs')
    writeFileSync(`${dir}/release`, '')
    await watchdog.line(resumed('job:jobs/1'))
    expect(transitions(watchdog)).toEqual(['stuck job:jobs/1 job_silent', 'resumed job:jobs/1 job_silent'])
  })
})

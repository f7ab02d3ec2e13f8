/** Threads that do not die, and what a supervisor makes of them (BEHAVIOURS D10). */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { scene, until } from '../support/processes.js'

describe('a supervisor whose threads cannot be ended', () => {
  it('D10: replaces them, says each, and leaves by SIGKILL when there are more than its pool; the job is not lost', async () => {
    const stage = await scene()
    const fifo = join(stage.dir, 'fifo')
    execFileSync('mkfifo', [fifo])
    const handler = stage.handler(
      'jobs',
      `import { openSync, readSync, constants } from 'node:fs'
       export default (job) => {
         if (job.attempt > 2) return 'read elsewhere'
         readSync(openSync(${JSON.stringify(fifo)}, constants.O_RDWR), Buffer.alloc(1))
       }`,
    )
    const queues = { jobs: { handler, threads: 1, onStuck: 'terminate' as const, attempts: { max: 5, backoffMs: [1] } } }
    const config = stage.config('unstuck', {
      queues,
      loops: { pollIntervalMs: 1000 },
      heartbeat: { intervalMs: 200, timeoutMs: 2000, threadBlockedMs: 1000 },
    })
    const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, queues })
    onTestFinished(() => dispatcher.close())
    const worn = await stage.supervisor(config, ['--name', 'worn'])
    await dispatcher.add('jobs', {}, { jobId: 'blocking' })
    await worn.line(({ event }) => event === 'worn_out', 40_000)
    expect(await worn.exited).toBe('SIGKILL')
    expect(worn.lines.filter(({ event }) => event === 'zombie_thread')).toHaveLength(2)
    // It said goodbye before: nobody calls it dead.
    await stage.supervisor(config, ['--name', 'fresh'])
    const job = await until(
      () => dispatcher.job('jobs', 'blocking'),
      ({ status }) => status === 'completed',
    )
    expect(job.attemptsMade).toBe(3)
    expect((await dispatcher.status()).incidents).toEqual([])
  })
})

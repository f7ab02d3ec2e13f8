/** BEHAVIOURS A13: clocks that step, and everything stopped at once, accuse nobody. */
import { describe, expect, it } from 'vitest'
import { fakeClock } from '../support/clock.js'
import { type LogLine, type Running, scene, until } from '../support/processes.js'

const quick = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 5000 },
  heartbeat: { intervalMs: 500, timeoutMs: 2000 },
  watchdog: { intervalMs: 500, redisUnreachableAfterMs: 3000 },
  supervisor: { name: 'only' },
}

async function setup(options: { redis?: NodeJS.ProcessEnv; supervisor?: NodeJS.ProcessEnv } = {}) {
  const stage = await scene(options.redis ? { env: options.redis } : {})
  const handler = stage.handler('slow', 'export default () => new Promise((done) => setTimeout(done, 30_000))')
  const config = stage.config('unstuck', { ...quick, queues: { jobs: { handler, threads: 1 } } })
  const watchdog = await stage.watchdog(config)
  const supervisor = await stage.supervisor(config, [], options.supervisor ? { env: options.supervisor } : {})
  // A fresh watchdog judges silence only after one timeout of clean looks.
  await seconds(3)
  return { ...stage, watchdog, supervisor }
}

const seconds = (count: number) => new Promise((done) => setTimeout(done, count * 1000))
const accused = (watchdog: Running) =>
  watchdog.lines.filter((line: LogLine) => line.event === 'stuck').map((line) => line['cause'])

describe('a clock that steps', () => {
  it.each([3600, -3600])(
    'A13 by %i s on the host of Redis makes the watchdog doubt itself, once, and nobody else; a death is still found',
    async (step) => {
      const clock = fakeClock()
      const { watchdog, supervisor, client } = await setup({ redis: clock.env })
      const [before = 0] = (await client.time()).map(Number)
      clock.set(step)
      const [after = 0] = (await client.time()).map(Number)
      expect(Math.abs(after - before - step)).toBeLessThan(5)
      const blind = await watchdog.line((line) => line.event === 'stuck')
      expect(blind['cause']).toBe('watchdog_blind')
      await watchdog.line((line) => line.event === 'resumed' && line['incidentId'] === blind['incidentId'])
      await seconds(2)
      expect(accused(watchdog)).toEqual(['watchdog_blind'])
      supervisor.kill('SIGKILL')
      await until(
        async () => accused(watchdog),
        (causes) => causes.includes('process_dead'),
      )
      expect(accused(watchdog)).toEqual(['watchdog_blind', 'process_dead'])
    },
  )

  it.each([3600, -3600])('A13 by %i s on the host of a supervisor is not even noticed', async (step) => {
    const clock = fakeClock()
    const { watchdog, client } = await setup({ supervisor: clock.env })
    clock.set(step)
    // Long enough for every threshold that could be mistaken.
    await seconds(7)
    expect(accused(watchdog)).toEqual([])
    expect(await client.hget('{unstuck}:beat:only', 'beat')).toContain('"state":"running"')
  })

  it('A13 SIGSTOP of everything at once accuses nobody after the first fresh beats', async () => {
    const { watchdog, supervisor, redis } = await setup()
    const all = [supervisor.pid, watchdog.pid, redis.pid]
    for (const pid of all) process.kill(pid, 'SIGSTOP')
    await seconds(6)
    for (const pid of all.reverse()) process.kill(pid, 'SIGCONT')
    const blind = await watchdog.line((line) => line.event === 'stuck')
    await watchdog.line((line) => line.event === 'resumed' && line['incidentId'] === blind['incidentId'])
    await seconds(3)
    expect(accused(watchdog)).toEqual(['watchdog_blind'])
  })
})

/** What an outage does to a queue, and that every job comes out of it without a person: real processes, shortened times. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/dispatcher.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { type Running, type Scene, scene, until } from '../support/processes.js'

const QUEUE = 'mail'
const k = queueKeys('bull', QUEUE)
const FAST = { loops: { pollIntervalMs: 1000 }, heartbeat: { intervalMs: 200, timeoutMs: 1500 } }

interface Outage extends Scene {
  /** The handler fails while this is true. */
  down(is: boolean): void
  /** Wall-clock times of all starts so far. */
  starts(): number[]
  dispatcher: Dispatcher
}

async function outage(queue: object): Promise<Outage> {
  const stage = await scene()
  const flag = join(stage.dir, 'down')
  const log = join(stage.dir, 'starts')
  writeFileSync(log, '')
  stage.handler(
    'mail',
    `import { appendFileSync, existsSync } from 'node:fs'
     export default async () => {
       appendFileSync(${JSON.stringify(log)}, Date.now() + '\\n')
       if (existsSync(${JSON.stringify(flag)})) throw new Error('the mail server is away')
     }`,
  )
  const dispatcher = await Dispatcher.connect({
    redis: { url: stage.redis.url },
    queues: { [QUEUE]: { handler: 'x', ...queue } },
  })
  onTestFinished(() => dispatcher.close())
  return {
    ...stage,
    dispatcher,
    down: (is) => (is ? writeFileSync(flag, '') : rmSync(flag)),
    starts: () => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean).map(Number) : []),
  }
}

const linesOf = (running: readonly Running[], event: string) =>
  running.flatMap(({ lines }) => lines.filter((line) => line.event === event))

/** The most that lie within so many milliseconds of each other. */
function mostWithin(times: readonly number[], windowMs: number): number {
  let most = 0
  let first = 0
  times.forEach((time, index) => {
    while (time - (times[first] ?? time) >= windowMs) first += 1
    most = Math.max(most, index - first + 1)
  })
  return most
}

describe('an outage of what all jobs of a queue need', () => {
  it('C11 500 jobs: the breaker opens once and closes once, all complete at the paced rate, in a handful of lines', async () => {
    const queue = {
      threads: 4,
      attempts: { max: 3, backoffMs: [300, 600], cooldownMs: 4000 },
      breaker: { failures: 20, probeMs: 1000 },
      release: { perSecond: 50 },
    }
    const { config, supervisor, down, starts, client, dispatcher } = await outage(queue)
    const path = config('unstuck', { ...FAST, queues: { [QUEUE]: { handler: './mail.mjs', ...queue } } })
    down(true)
    await dispatcher.addBulk(
      QUEUE,
      Array.from({ length: 500 }, (_, n) => ({ data: { n } })),
    )
    const running = await Promise.all([supervisor(path, ['--name', 'one']), supervisor(path, ['--name', 'two'])])
    await Promise.race(running.map((one) => one.line((line) => line.event === 'breaker_open')))
    await until(
      () => client.zcard(k.parked('')),
      (parked) => parked > 400,
    )
    // Several probes fail meanwhile.
    const before = starts().length
    await until(
      async () => starts().length,
      (count) => count >= before + 4,
      30_000,
    )
    const probes = starts().slice(before)
    expect(mostWithin(probes, 900)).toBeLessThanOrEqual(2)
    down(false)
    const healed = Date.now()
    await until(
      () => client.zcard(k.completed),
      (completed) => completed === 500,
      60_000,
    )
    expect(linesOf(running, 'breaker_open')).toHaveLength(1)
    expect(linesOf(running, 'breaker_closed')).toHaveLength(1)
    // 50 a second with its jitter, and what a fetch finds due at once.
    expect(
      mostWithin(
        starts().filter((time) => time > healed),
        1000,
      ),
    ).toBeLessThanOrEqual(75)
    expect(running.reduce((sum, { lines }) => sum + lines.length, 0)).toBeLessThan(25)
    expect(await client.exists(k.exhausted, k.breakers, k.campaigns)).toBe(0)
  }, 120_000)

  it('C5 exhausted jobs come back after their cooldown and run; C4 until then they are exhausted, and not failed', async () => {
    const queue = { threads: 1, attempts: { max: 2, backoffMs: [100], cooldownMs: 3000 } }
    const { config, supervisor, down, client, dispatcher } = await outage(queue)
    const path = config('unstuck', { ...FAST, queues: { [QUEUE]: { handler: './mail.mjs', ...queue } } })
    down(true)
    const id = await dispatcher.add(QUEUE, {})
    const one = await supervisor(path, ['--name', 'one'])
    await one.line((line) => line.event === 'attempts_exhausted')
    const view = await dispatcher.job(QUEUE, id)
    expect(view).toMatchObject({ status: 'exhausted', attemptsMade: 2, attemptsMax: 2, lastError: 'the mail server is away' })
    down(false)
    await until(
      () => client.zscore(k.completed, id),
      (score) => score !== null,
      20_000,
    )
    expect(Number(await client.zscore(k.completed, id))).toBeGreaterThanOrEqual(Date.parse(view.cooldownUntil ?? ''))
    expect(await one.line((line) => line.event === 'attempts_reset')).toMatchObject({ by: 'cooldown', count: 1 })
  }, 60_000)

  it('C9 a supervisor seen again after its death resets what its group had exhausted, once', async () => {
    const queue = { threads: 1, attempts: { max: 1, backoffMs: [100], cooldownMs: 3_600_000 } }
    const { config, supervisor, watchdog, down, client, dispatcher } = await outage(queue)
    const path = config('unstuck', { ...FAST, queues: { [QUEUE]: { handler: './mail.mjs', ...queue } } })
    down(true)
    await dispatcher.addBulk(QUEUE, [{ group: 'acme' }, { group: 'acme' }, { group: 'other' }])
    const dogs = await Promise.all([1, 2, 3].map(() => watchdog(path)))
    const one = await supervisor(path, ['--name', 'one', '--group', 'acme'])
    await until(
      () => client.zcard(k.exhausted),
      (count) => count === 3,
    )
    one.kill('SIGKILL')
    await Promise.race(dogs.map((dog) => dog.line((line) => line.event === 'stuck' && line['cause'] === 'process_dead')))
    down(false)
    const back = await Promise.all([
      supervisor(path, ['--name', 'two', '--group', 'acme']),
      supervisor(path, ['--name', 'three', '--group', 'acme']),
    ])
    await until(
      () => client.zcard(k.completed),
      (count) => count === 2,
    )
    for (const running of back) running.kill('SIGTERM')
    await Promise.all(back.map(({ exited }) => exited))
    const resets = linesOf(back, 'attempts_reset')
    expect(resets.map((line) => line['by'])).toEqual(resets.map(() => 'restart'))
    expect(resets.reduce((sum, line) => sum + Number(line['count']), 0)).toBe(2)
    expect(await client.zcard(k.exhausted)).toBe(1)
  }, 60_000)
})

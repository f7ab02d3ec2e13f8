/** Orders to a running supervisor, as its own process takes them. */
import { Queue } from 'bullmq'
import { describe, expect, it, onTestFinished } from 'vitest'
import { readBeats } from '../../src/heartbeat/redis-heartbeats.js'
import { sendOrder } from '../../src/heartbeat/redis-orders.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { scene, until } from '../support/processes.js'

const keys = fleetKeys('{unstuck}')

const WAIT = `export default (job, ctx) => ctx.step('wait', () => new Promise((done) => setTimeout(done, job.data.ms)))`

async function setup() {
  const { config, handler, supervisor, redis, client } = await scene()
  const file = config('unstuck', { queues: { mail: { handler: handler('wait', WAIT), threads: 1 } } })
  const alpha = await supervisor(file, ['--name', 'alpha'])
  const queue = new Queue('mail', { connection: { url: redis.url, maxRetriesPerRequest: null } })
  onTestFinished(() => queue.close())
  const seen = async () => (await readBeats(client, keys, ['alpha']))[0]
  const incarnation = (await until(seen, (beat) => beat?.incarnation !== undefined))?.incarnation ?? ''
  return { alpha, queue, client, redis, seen, to: { supervisor: 'alpha', incarnation } }
}

describe('an order to drain', () => {
  it('D13 twice: takes no more, finishes what runs, says goodbye and exits with 0', async () => {
    const { alpha, queue, client, seen, to } = await setup()
    const running = await queue.add('n', { ms: 2500 })
    await until(
      () => queue.getActiveCount(),
      (count) => count === 1,
    )
    const waiting = await queue.add('n', { ms: 0 })
    await sendOrder(client, keys, to, { kind: 'drain' })
    await alpha.line((line) => line.event === 'stopping')
    await sendOrder(client, keys, to, { kind: 'drain' })
    expect(await alpha.exited).toBe(0)
    expect([await running.getState(), await waiting.getState()]).toEqual(['completed', 'waiting'])
    expect(await seen()).toMatchObject({ bye: true })
    expect(alpha.lines.filter(({ event }) => event === 'handed_back' || event === 'stopping')).toHaveLength(1)
  })

  it('for a former incarnation of the name is dropped and said, and the work goes on', async () => {
    const { alpha, queue, client, to } = await setup()
    await sendOrder(client, keys, { ...to, incarnation: 'another' }, { kind: 'drain' })
    await alpha.line(({ msg }) => msg.includes('an order for another incarnation was dropped'))
    const job = await queue.add('n', { ms: 0 })
    await until(
      () => job.getState(),
      (state) => state === 'completed',
    )
  })
})

describe('a signal to stop while Redis is gone', () => {
  it('D13 ends the process by itself all the same, also while its connections are between two tries', async () => {
    const { alpha, redis } = await setup()
    await redis.kill()
    await alpha.line(({ msg }) => msg.includes('ECONNREFUSED'))
    alpha.kill('SIGTERM')
    expect(await alpha.exited).toBe(0)
    expect(alpha.lines.filter(({ event }) => event === 'fatal')).toEqual([])
  })
})

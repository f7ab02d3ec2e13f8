import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { statusLines } from '../../src/cli/status.js'
import { Dispatcher } from '../../src/dispatcher.js'
import { parseConfig } from '../../src/platform/config-parse.js'
import { fleetKeys, queueKeys } from '../../src/platform/redis-keys.js'
import { startTestRedis } from '../support/redis.js'

/** A fleet with a watchdog and the queue `mail`, in which nothing happens unless a test writes it. */
async function setup() {
  const server = await startTestRedis()
  const redis = new Redis(server.url)
  const config = { redis: { url: server.url }, queues: { mail: { handler: 'any' } } }
  const dispatcher = new Dispatcher(parseConfig(config, { baseDir: '/', handlersMustExist: false }))
  onTestFinished(async () => {
    await dispatcher.close()
    redis.disconnect()
    await server.stop()
  })
  await redis.zadd(fleetKeys('{unstuck}').watchdogs, Date.now() + 60_000, 'w1')
  const page = async () => statusLines(await dispatcher.status(), { paint: (_, text) => text }).join('\n')
  return { redis, dispatcher, page, k: queueKeys('bull', 'mail') }
}

describe('the status of a fleet', () => {
  it('is well while nothing is exhausted, every breaker is closed and jobs failed for good', async () => {
    const { redis, dispatcher, k } = await setup()
    await redis.zadd(k.permanent, 1, 'a')
    expect(await dispatcher.status()).toMatchObject({
      queues: [{ queue: 'mail', exhausted: 0, permanent: 1, breakersOpen: [] }],
      problems: [],
    })
  })

  it('names a queue with exhausted jobs, and each open breaker', async () => {
    const { redis, dispatcher, k } = await setup()
    await redis.zadd(k.exhausted, 1, 'a')
    expect((await dispatcher.status()).problems).toEqual(['queue:mail: 1 exhausted job'])
    await redis.zadd(k.exhausted, ...Array.from({ length: 11 }, (_, n) => [n, `b${n}`]).flat())
    await redis.hset(k.breakers, { acme: '{}', '': '{}' })
    expect((await dispatcher.status()).problems).toEqual([
      'queue:mail: 12 exhausted jobs',
      'queue:mail: breaker open for jobs without a group',
      'queue:mail: breaker open for group acme',
    ])
  })

  it('E4 shows both in columns of their own, a few groups by name, and no control character of theirs', async () => {
    const { redis, page, k } = await setup()
    await redis.zadd(k.exhausted, 1, 'a', 2, 'b')
    await redis.hset(k.breakers, { 'ac\u001b[31mme': '{}' })
    const shown = await page()
    expect(shown).toMatch(/FAILED +EXHAUSTED +BREAKER +WORKERS/)
    expect(shown).toMatch(/mail +0 +0 +0 +0 +0 +2 +open: ac/)
    expect(shown).not.toContain('\u001b')
    await redis.hset(k.breakers, { b: '{}', c: '{}', d: '{}' })
    expect(await page()).toMatch(/ 2 +open: 4 groups +0/)
    await redis.del(k.breakers)
    await redis.hset(k.breakers, '', '{}')
    expect(await page()).toMatch(/ 2 +open +0/)
  })
})

/** A real watchdog on a real Redis, and a monitor outside that counts its signs of life. */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { startWatchdog } from '../../src/processes/watchdog.js'
import { pingUrl } from '../../src/watchdog/node-deadman.js'
import { until } from '../support/processes.js'
import { startTestRedis } from '../support/redis.js'
import { testConfig } from '../support/watchdog-config.js'

const LIMIT_MS = 30_000
const SECRET = 'a-secret-7f3a'

/** A monitor in the style of healthchecks.io, on loopback. */
async function monitor() {
  const asked: string[] = []
  let status = 200
  const answer = (request: IncomingMessage) => asked.push(`${request.method} ${request.url}`)
  const server = createServer((request, response) => {
    answer(request)
    if (status !== 0) response.writeHead(status, status === 302 ? { location: '/elsewhere' } : {}).end('OK')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  const origin = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    asked,
    url: `http://${origin}/ping/${SECRET}`,
    origin,
    /** @param code 0: no answer at all */
    answers: (code: number) => {
      status = code
    },
    more: async (count = 1) => {
      const wanted = asked.length + count
      await until(
        async () => asked.length,
        (seen) => seen >= wanted,
        LIMIT_MS,
      )
    },
  }
}

async function setup() {
  const redis = await startTestRedis()
  onTestFinished(() => redis.stop())
  const outside = await monitor()
  const config = testConfig({ redisUrl: redis.url })
  const lines: string[] = []
  const log = { info: (_: object, msg: string) => void lines.push(msg), warn: (_: object, msg: string) => void lines.push(msg) }
  const watching = { ...config, watchdog: { ...config.watchdog, deadmanUrl: outside.url } }
  const start = async (changes: Partial<typeof watching> = {}) => {
    const watchdog = await startWatchdog({ ...watching, ...changes }, { log, id: 'w1', deadmanIntervalMs: 50 })
    onTestFinished(() => watchdog.stop())
    return watchdog
  }
  const said = (fits: (line: string) => boolean) =>
    until(
      async () => lines.filter(fits),
      (found) => found.length > 0,
      LIMIT_MS,
    )
  return { redis, outside, lines, said, start, config: watching }
}

describe("the watchdog's sign of life", () => {
  it('goes out again and again while it judges, by GET and to that address alone', async () => {
    const { outside, start } = await setup()
    const watchdog = await start()
    await outside.more(3)
    expect(new Set(outside.asked)).toEqual(new Set([`GET /ping/${SECRET}`]))
    await watchdog.stop()
  })

  it('does not go out before it may judge everybody', async () => {
    const { outside, start, config } = await setup()
    const watchdog = await start({ heartbeat: { ...config.heartbeat, timeoutMs: 3000 } })
    const ready = async () => (await fetch(`${watchdog.address}/readyz`)).status
    await until(ready, (status) => status === 200, LIMIT_MS)
    // It looks by now, and says only what beats say of themselves.
    const { incidents } = (await (await fetch(`${watchdog.address}/api/v1/health`)).json()) as { incidents: object[] }
    expect({ incidents, asked: outside.asked }).toEqual({ incidents: [], asked: [] })
    await outside.more()
  })

  it('B5 does not go out while Redis is away, and does again when it is back and the watchdog sees', async () => {
    const { redis, outside, said, start } = await setup()
    const { address } = await start()
    await outside.more(2)
    redis.pause()
    await said((line) => line.startsWith('STUCK redis: redis_unreachable'))
    const before = outside.asked.length
    const cycles = async () => {
      const text = await (await fetch(`${address}/metrics`)).text()
      return Number(/^unstuck_watchdog_cycle_seconds_count (\d+)$/m.exec(text)?.[1])
    }
    const ended = await cycles()
    await until(cycles, (count) => count >= ended + 3, LIMIT_MS)
    redis.resume()
    await said((line) => line.startsWith('RESUMED redis'))
    // Redis answers, and the watchdog is still blind: for a heartbeat timeout it trusts nothing.
    expect(outside.asked.length).toBe(before)
    await outside.more(2)
  })

  it('that nobody takes is said once, without the secret, and the watch goes on', async () => {
    const { outside, lines, said, start } = await setup()
    outside.answers(404)
    await start()
    await outside.more(4)
    const found = await said((line) => line.startsWith('watchdog.deadmanUrl: '))
    expect(found).toEqual([
      `watchdog.deadmanUrl: ${outside.origin}: answered with 404; it will raise the alarm, and this is said once`,
    ])
    outside.answers(200)
    await outside.more(2)
    outside.answers(500)
    await outside.more(3)
    const again = await until(
      async () => lines.filter((line) => line.startsWith('watchdog.deadmanUrl: ')),
      ({ length }) => length > 1,
    )
    expect(again).toHaveLength(2)
    expect(lines.join('\n')).not.toContain(SECRET)
  })
})

describe('a ping', () => {
  it('fails in words without the secret: no answer, a redirect, nobody there', async () => {
    const outside = await monitor()
    const failure = (url: string, limitMs?: number) =>
      pingUrl(url, 'unstuck/test', limitMs).then(
        () => 'taken',
        (error: Error) => error.message,
      )
    expect(await failure(outside.url)).toBe('taken')
    outside.answers(302)
    expect(await failure(outside.url)).toBe(`${outside.origin}: answered with 302; name the address that it leads to`)
    expect(outside.asked).not.toContain('GET /elsewhere')
    outside.answers(0)
    expect(await failure(outside.url, 50)).toBe(`${outside.origin}: no answer in 50 ms`)
    expect(await failure(`http://user:${SECRET}@127.0.0.1:1/${SECRET}`)).toBe('127.0.0.1:1: ECONNREFUSED')
  })
})

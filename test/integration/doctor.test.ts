/** `unstuck doctor` from dist on a real Redis, well and ill. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Finding } from '../../src/cli/doctor-finding.js'
import { fleetKeys, queueKeys } from '../../src/platform/redis-keys.js'
import { cli, tempFolder } from '../support/cli.js'
import { fakeClock } from '../support/clock.js'
import { freePort, startTestRedis, type TestRedisOptions } from '../support/redis.js'

const keys = fleetKeys('{unstuck}')

async function setup(options: TestRedisOptions = {}) {
  const server = await startTestRedis(options)
  onTestFinished(() => server.stop())
  const redis = new Redis(server.url)
  redis.on('error', () => undefined)
  onTestFinished(() => redis.disconnect())
  const dir = tempFolder()
  writeFileSync(join(dir, 'unstuck.config.json'), JSON.stringify({ queues: { mail: { handler: './mail.mjs' } } }))
  const doctor = async (env: NodeJS.ProcessEnv = {}) => {
    const { code, stdout, stderr } = await cli(['doctor', '--json', '--redis', server.url], { cwd: dir, env })
    if (stderr !== '') throw new Error(stderr)
    const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Finding[] }
    const of = (check: Finding['check']) => findings.filter((finding) => finding.check === check)
    return { code, ok, findings, of }
  }
  return { server, redis, dir, doctor }
}

describe('unstuck doctor', () => {
  it('finds nothing on a healthy store: every check is there, exit code 0', async () => {
    const { doctor } = await setup({ aof: true })
    const { code, ok, findings } = await doctor()
    expect({ code, ok }).toEqual({ code: 0, ok: true })
    expect(findings.filter(({ status }) => status !== 'ok')).toEqual([])
    const checks = ['redis', 'version', 'eviction', 'persistence', 'clock', 'keys', 'bullmq', 'thresholds', 'programs']
    expect(new Set(findings.map(({ check }) => check))).toEqual(new Set(checks))
  })

  it('names an eviction policy that drops jobs, with the fix, exit code 1', async () => {
    const { doctor } = await setup({ args: ['--maxmemory-policy', 'allkeys-lru'] })
    const { code, of } = await doctor()
    expect(code).toBe(1)
    expect(of('eviction')).toMatchObject([
      { status: 'problem', found: expect.stringContaining('allkeys-lru'), fix: 'run CONFIG SET maxmemory-policy noeviction' },
    ])
    expect(of('persistence')).toMatchObject([{ status: 'advice', fix: 'run CONFIG SET appendonly yes' }])
  })

  it('E4 says a Redis that is away in words, checks the rest, and ends with exit code 2', async () => {
    const { dir } = await setup()
    const url = `redis://user:secret-7f3a@127.0.0.1:${await freePort()}`
    const { code, stdout } = await cli(['doctor', '--redis', url], { cwd: dir })
    expect(code).toBe(2)
    expect(stdout).toMatch(/^PROBLEM +redis +redis:\/\/127\.0\.0\.1:\d+: not reachable .* → check that Redis runs there/)
    expect(stdout).toContain('thresholds')
    expect(stdout).not.toContain('secret-7f3a')
  })

  it('finds clocks that are apart', async () => {
    const clock = fakeClock()
    clock.set(-3600)
    const { doctor } = await setup({ aof: true })
    const { code, of } = await doctor(clock.env)
    expect(code).toBe(1)
    expect(of('clock')).toMatchObject([
      { status: 'problem', found: expect.stringMatching(/are 3[56]\d{5} ms apart/), fix: /NTP/ },
    ])
  })

  it('finds keys that are nobody’s, and jobs in a queue that nobody serves', async () => {
    const { redis, server, doctor } = await setup({ aof: true })
    await redis.set('{unstuck}:mine', '1')
    await redis.lpush(keys.orders('gone'), '{}')
    await redis.sadd(keys.queues, 'mail', 'left')
    const queue = new Queue('left', { connection: { url: server.url } })
    onTestFinished(() => queue.close())
    await queue.add('m', {})
    const { code, of } = await doctor()
    expect(code).toBe(1)
    const [strays, unserved] = of('keys')
    expect(strays).toMatchObject({ status: 'advice', found: 'stray under redis.prefix: {unstuck}:mine {unstuck}:orders:gone' })
    expect(unserved).toMatchObject({
      status: 'problem',
      found: expect.stringMatching(/^queue left: 1 jobs, no config here names it/),
    })
  })

  it('finds a program with a BullMQ that parks after outages, by what it left in a queue', async () => {
    const { redis, doctor } = await setup({ aof: true })
    await redis.sadd(keys.queues, 'mail')
    await redis.hset(queueKeys('bull', 'mail').meta, 'version', 'bullmq:6.1.0')
    const { code, of } = await doctor()
    expect(code).toBe(1)
    expect(of('bullmq')).toContainEqual(
      expect.objectContaining({ status: 'problem', found: 'queue mail: a program with BullMQ 6.1.0 uses it' }),
    )
  })
})

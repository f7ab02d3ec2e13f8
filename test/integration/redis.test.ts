import { describe, expect, it, onTestFinished } from 'vitest'
import { UserError } from '../../src/kernel/errors.js'
import { checkRedis, connectRedis, type RedisRole, redactUrl } from '../../src/platform/redis.js'
import { freePort, startTestRedis, type TestRedisOptions } from '../support/redis.js'

async function setup(options?: TestRedisOptions) {
  const server = await startTestRedis(options)
  onTestFinished(() => server.stop())
  const connect = (role: RedisRole, url = server.url, overrides = {}) => {
    const client = connectRedis(url, role, overrides)
    onTestFinished(() => client.disconnect())
    return client
  }
  return { server, connect }
}

const refusal = (promise: Promise<unknown>): Promise<UserError> =>
  promise.then(
    () => expect.unreachable('was not refused'),
    (error: unknown) => (error instanceof UserError ? error : expect.unreachable(String(error))),
  )

describe('checkRedis', () => {
  it('accepts a server that keeps every key', async () => {
    const { connect } = await setup()
    await checkRedis(connect('watch'))
    await checkRedis(connect('command'))
  })

  it('refuses another eviction policy and names the fix', async () => {
    const { connect } = await setup({ args: ['--maxmemory-policy', 'allkeys-lru'] })
    const error = await refusal(checkRedis(connect('command')))
    expect(error.code).toBe('REDIS_UNSUITABLE')
    expect(error.message).toContain('allkeys-lru')
    expect(error.message).toContain('CONFIG SET maxmemory-policy noeviction')
  })

  it('takes what a provider forbids to ask for no fault', async () => {
    const { connect } = await setup({
      args: ['--maxmemory-policy', 'allkeys-lru', '--user', ...'default on nopass ~* &* +@all -info -config'.split(' ')],
    })
    await checkRedis(connect('command', undefined, { enableReadyCheck: false }))
  })

  it('says where nothing answers and why', async () => {
    const port = await freePort()
    const client = connectRedis(`redis://me:secret@127.0.0.1:${port}`, 'command')
    onTestFinished(() => client.disconnect())
    const error = await refusal(checkRedis(client, 300))
    expect(error.code).toBe('REDIS_UNREACHABLE')
    expect(error.message).toContain(`redis://127.0.0.1:${port}: not reachable (connect ECONNREFUSED`)
    expect(error.message).not.toContain('secret')
  })

  it('does not wait for a wrong password to become right', async () => {
    const { server } = await setup({ args: ['--requirepass', 'right'] })
    const client = connectRedis(`redis://:wrong@127.0.0.1:${server.port}`, 'command')
    onTestFinished(() => client.disconnect())
    const error = await refusal(checkRedis(client, 30_000))
    expect(error.message).toMatch(/WRONGPASS/)
  })

  it('does not wait longer than it was told for a server that is silent', async () => {
    const { server, connect } = await setup()
    server.pause()
    const error = await refusal(checkRedis(connect('command'), 300))
    expect(error.message).toContain('no answer in 300 ms')
  })
})

describe('a watch connection', () => {
  it('A7 fails at once while Redis is away, and works again by itself within two seconds', async () => {
    const { server, connect } = await setup()
    const client = connect('watch')
    await checkRedis(client)
    const closed = new Promise((resolve) => client.once('close', resolve))
    await server.kill()
    await closed
    const before = performance.now()
    await expect(client.ping()).rejects.toThrow()
    expect(performance.now() - before).toBeLessThan(100)

    const ready = new Promise((resolve) => client.once('ready', resolve))
    await server.restart()
    const up = performance.now()
    await ready
    expect(performance.now() - up).toBeLessThan(2000)
    expect(await client.ping()).toBe('PONG')
  })

  it('A7 gives up a call to a silent server after its limit, and never repeats it', async () => {
    const { server, connect } = await setup()
    const client = connect('watch', undefined, { commandTimeout: 200 })
    await checkRedis(client)
    const replaced = new Promise((resolve) => client.once('reconnecting', resolve))
    server.pause()
    await expect(client.incr('count')).rejects.toThrow('timed out')
    await replaced
    const ready = new Promise((resolve) => client.once('ready', resolve))
    server.resume()
    await ready
    expect(await client.get('count')).toBe('1')
  })
})

describe('redactUrl', () => {
  it('hides user and password, also of an address that cannot be read', () => {
    expect(redactUrl('redis://user:pa%20ss@h:1/2?password=x')).toBe('redis://h:1/2')
    expect(redactUrl('rediss://:secret@cache.example')).toBe('rediss://cache.example')
    expect(redactUrl('redis://user:se cret@[')).not.toContain('cret')
  })
})

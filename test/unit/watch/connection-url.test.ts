import { describe, expect, it } from 'vitest'
import { connectionUrl } from '../../../src/watch/connection-url.js'

describe('the address of a worker’s Redis', () => {
  it.each([
    ['options', { host: 'redis.example', port: 6380, db: 3 }, 'redis://redis.example:6380/3'],
    ['defaults', {}, 'redis://127.0.0.1:6379/0'],
    ['a password with odd characters', { password: 'a@b/c:d' }, 'redis://:a%40b%2Fc%3Ad@127.0.0.1:6379/0'],
    ['a user', { username: 'app', password: 'x' }, 'redis://app:x@127.0.0.1:6379/0'],
    ['TLS', { host: 'r', tls: {} }, 'rediss://r:6379/0'],
    ['IPv6', { host: '::1' }, 'redis://[::1]:6379/0'],
    ['a unix socket', { path: '/run/redis.sock' }, '/run/redis.sock'],
    ['a url of its own', { url: 'redis://r:1/2' }, 'redis://r:1/2'],
    ['a client', { options: { host: 'r', port: 1 } }, 'redis://r:1/0'],
    ['a wrapped client', { client: { options: { host: 'r', port: 1 } } }, 'redis://r:1/0'],
  ])('is read from %s', (_, connection, url) => {
    expect(connectionUrl(connection)).toBe(url)
  })

  it.each([
    ['Sentinel', { sentinels: [{ host: 'r', port: 26379 }], name: 'main' }],
    ['a Cluster', { isCluster: true, options: {} }],
    ['nothing', undefined],
  ])('cannot be said for %s, and the error says what to do', (_, connection) => {
    expect(() => connectionUrl(connection)).toThrow('set UNSTUCK_REDIS_URL, or the option redisUrl')
  })
})

import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'

export type RedisReply = string | number | null | RedisReply[]

/** A Lua script, sent by its hash and in full only when the server does not know it (a new or restarted one). */
export interface RedisScript {
  run(redis: Redis, keys: readonly string[], args: readonly (string | number)[]): Promise<RedisReply>
}

/** The milliseconds of Redis TIME, as the first line of scripts that need the store's clock. */
export const LUA_NOW = `local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n`

export function redisScript(source: string): RedisScript {
  const sha = createHash('sha1').update(source).digest('hex')
  return {
    async run(redis, keys, args) {
      try {
        return (await redis.evalsha(sha, keys.length, ...keys, ...args)) as RedisReply
      } catch (error) {
        if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
        return (await redis.eval(source, keys.length, ...keys, ...args)) as RedisReply
      }
    },
  }
}

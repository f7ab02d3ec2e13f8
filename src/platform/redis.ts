/**
 * Connections to Redis: how each kind behaves while the store is slow, away or silent.
 *
 * A reply that never comes is the failure that hides best, so every connection has a limit to silence. Which one
 * differs by role: whoever runs jobs waits out an outage and must not do a thing twice, whoever judges must get an
 * answer at once, also when the answer is "Redis is away". This file never decides what an outage means.
 */
import { Redis, type RedisOptions } from 'ioredis'
import { messageOf, UserError } from '../kernel/errors.js'

/**
 * - `command`: reads and writes of whoever can wait; held back while Redis is away, given up after about 10 s.
 * - `blocking`: calls that block on purpose; never given up.
 * - `watch`: a detector's; a call fails at once while Redis is away and after `commandTimeout` while it is silent.
 * - `subscriber`: subscribes again by itself after a reconnect.
 */
export type RedisRole = 'command' | 'blocking' | 'watch' | 'subscriber'

/** ioredis' options, but for the one that changes the types of replies. */
type Options = Omit<RedisOptions, 'replyMapping'>

export type RedisOverrides = Options & {
  /** Told of every connection error (one for each failed try to connect). Default: not told; the calls themselves fail. */
  readonly onError?: (error: Error) => void
}

/** How long a `watch` call may take, milliseconds. */
const WATCH_TIMEOUT_MS = 2000

/**
 * Silence after which a socket with a call in flight is replaced, milliseconds. Above the longest call that BullMQ
 * makes block on purpose (10 s and its own second of grace). Without it one swallowed reply hangs a worker for good:
 * BullMQ has no limit of its own on its main connection, and `commandTimeout` does not replace the connection.
 */
const SOCKET_TIMEOUT_MS = 20_000

/** After an outage every supervisor must beat again within a second or two, so the wait between tries stays short. */
const MAX_RETRY_DELAY_MS = 500

const CONNECT_TIMEOUT_MS = 2000

const shared = {
  retryStrategy: (times: number) => Math.min(times * 50, MAX_RETRY_DELAY_MS),
  connectTimeout: CONNECT_TIMEOUT_MS,
  socketTimeout: SOCKET_TIMEOUT_MS,
} satisfies Options

const byRole: Readonly<Record<RedisRole, Options>> = {
  command: { ...shared, maxRetriesPerRequest: 20 },
  blocking: { ...shared, maxRetriesPerRequest: null },
  watch: {
    ...shared,
    commandTimeout: WATCH_TIMEOUT_MS,
    // A call that timed out was reported as failed: sending it again after a reconnect would do it behind the caller's back.
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
  },
  subscriber: { ...shared, maxRetriesPerRequest: null },
}

/**
 * Opens a connection that reconnects by itself until it is closed. Never throws for a server that is away.
 * @param url `redis://`, or `rediss://` for TLS
 * @param overrides ioredis options that differ for this connection; on `watch`, `commandTimeout` (default 2000 ms)
 */
export function connectRedis(url: string, role: RedisRole, overrides: RedisOverrides = {}): Redis {
  const { onError, ...rest } = overrides
  const options: Options = { ...byRole[role], ...rest }
  if (role === 'watch' && rest.socketTimeout === undefined) {
    // Twice the limit of a call: a connection that swallowed a reply is replaced soon after the call was given up.
    options.socketTimeout = 2 * (options.commandTimeout ?? WATCH_TIMEOUT_MS)
  }
  const client = new Redis(url, options)
  client.on('error', (error: Error) => onError?.(error))
  return client
}

/** The address without user, password and query, to show in messages and logs. */
export function redactUrl(url: string): string {
  try {
    const { protocol, host, pathname } = new URL(url)
    return `${protocol}//${host}${pathname === '/' ? '' : pathname}`
  } catch {
    return '(an address that cannot be read)'
  }
}

const MIN_VERSION: readonly [number, number] = [6, 2]

/**
 * Refuses a store on which jobs could be lost. What a provider forbids to ask (INFO, CONFIG) is unknown, and no fault.
 * @param timeoutMs how long Redis may take to answer
 * @throws UserError REDIS_UNREACHABLE, or REDIS_UNSUITABLE: older than 6.2, or an eviction policy that drops keys
 */
export async function checkRedis(client: Redis, timeoutMs = 5000): Promise<void> {
  const where = addressOf(client)
  await waitUntilReady(client, where, timeoutMs)
  const version = infoField(await ask(() => client.info('server')), 'redis_version')
  if (version !== undefined && isOlder(version, MIN_VERSION)) {
    throw new UserError('REDIS_UNSUITABLE', `${where}: Redis ${version} is too old; use ${MIN_VERSION.join('.')} or newer`)
  }
  const policy = await evictionPolicyOf(client)
  if (policy !== undefined && policy !== 'noeviction') {
    throw new UserError(
      'REDIS_UNSUITABLE',
      `${where}: maxmemory-policy is "${policy}", so jobs could be dropped; run CONFIG SET maxmemory-policy noeviction`,
    )
  }
}

async function waitUntilReady(client: Redis, where: string, timeoutMs: number): Promise<void> {
  if (client.status === 'ready') return
  let reason = `no answer in ${timeoutMs} ms`
  let settle: (ready: boolean) => void = () => undefined
  const settled = new Promise<boolean>((resolve) => {
    settle = resolve
  })
  const timer = setTimeout(() => settle(false), timeoutMs)
  const onReady = () => settle(true)
  const onEnd = () => settle(false)
  const onError = (error: Error) => {
    reason = reasonOf(error)
    // A wrong password or name does not heal by waiting, and a refused connection of a server that starts does so soon.
    if (isHopeless(error)) settle(false)
  }
  client.on('ready', onReady).on('end', onEnd).on('error', onError)
  if (client.status === 'wait') client.connect().catch(onError)
  const ready = await settled
  clearTimeout(timer)
  client.off('ready', onReady).off('end', onEnd).off('error', onError)
  if (!ready) {
    throw new UserError(
      'REDIS_UNREACHABLE',
      `${where}: not reachable (${reason}); check that Redis runs there, or set REDIS_URL`,
    )
  }
}

function isHopeless(error: Error): boolean {
  return /^(WRONGPASS|NOAUTH|NOPERM)|invalid password|ENOTFOUND|certificate/i.test(error.message)
}

function reasonOf(error: Error): string {
  // Node gathers the errors of several addresses of one name into one without a text.
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0])
  return error.message.split('\n', 1)[0] || error.name
}

function addressOf(client: Redis): string {
  const { host = '127.0.0.1', port = 6379, path, tls } = client.options
  return path === undefined ? `${tls ? 'rediss' : 'redis'}://${host}:${port}` : path
}

async function evictionPolicyOf(client: Redis): Promise<string | undefined> {
  const reply = await ask(() => client.config('GET', 'maxmemory-policy'))
  const policy = Array.isArray(reply) ? reply[1] : undefined
  if (typeof policy === 'string') return policy
  return infoField(await ask(() => client.info('memory')), 'maxmemory_policy')
}

/** What Redis answers, or undefined when it refuses to say. */
async function ask(question: () => Promise<unknown>): Promise<unknown> {
  try {
    return await question()
  } catch {
    return undefined
  }
}

/** A line of what INFO answered. */
export function infoField(info: unknown, field: string): string | undefined {
  if (typeof info !== 'string') return undefined
  const line = info.split('\r\n').find((candidate) => candidate.startsWith(`${field}:`))
  return line?.slice(field.length + 1).trim()
}

function isOlder(version: string, [minMajor, minMinor]: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major < minMajor || (major === minMajor && minor < minMinor)
}

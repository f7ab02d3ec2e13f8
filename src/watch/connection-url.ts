/** The address of the Redis that a BullMQ worker uses, for the sentinel's own connection: only text can reach its thread. */
import { UserError } from '../kernel/errors.js'

/** What ioredis takes, as far as an address can say it. */
interface RedisAddress {
  readonly host?: string
  readonly port?: number
  readonly path?: string | null
  readonly username?: string | null
  readonly password?: string | null
  readonly db?: number
  readonly tls?: unknown
  readonly url?: string
  readonly sentinels?: unknown
}

/**
 * @param connection what the worker was given: ioredis' options or a client of its
 * @throws UserError CONFIG_INVALID when an address cannot say it (Sentinel, Cluster): then `redisUrl` must
 */
export function connectionUrl(connection: unknown): string {
  const address = optionsOf(connection)
  if (!address || address.sentinels) {
    throw new UserError(
      'CONFIG_INVALID',
      'watchWorker: the worker uses Sentinel or a Cluster, which has no single address; set UNSTUCK_REDIS_URL, or the option redisUrl',
    )
  }
  if (address.url) return address.url
  if (address.path) return address.path
  const { username, password, tls } = address
  const who = password ? `${encodeURIComponent(username ?? '')}:${encodeURIComponent(password)}@` : ''
  const host = address.host ?? '127.0.0.1'
  const at = host.includes(':') ? `[${host}]` : host
  return `redis${tls ? 's' : ''}://${who}${at}:${address.port ?? 6379}/${address.db ?? 0}`
}

function optionsOf(connection: unknown): RedisAddress | undefined {
  if (typeof connection !== 'object' || connection === null) return undefined
  // A client, or BullMQ's thin wrapper around one.
  const client: unknown = Reflect.get(connection, 'client') ?? connection
  if (typeof client !== 'object' || client === null) return undefined
  if (Reflect.get(client, 'isCluster') === true) return undefined
  const options: unknown = Reflect.get(client, 'options')
  return (typeof options === 'object' && options !== null ? options : client) as RedisAddress
}

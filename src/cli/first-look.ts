/** What a process that stays refuses at its start, before anything is begun. Later the same trouble is an outage to report. */
import { createServer } from 'node:net'
import { hasCode, UserError } from '../kernel/errors.js'
import type { Config } from '../platform/config.js'
import { checkRedis, connectRedis } from '../platform/redis.js'

/** @throws UserError REDIS_UNREACHABLE or REDIS_UNSUITABLE; says nothing when no Redis is named */
export async function refuseUnsuitableRedis({ redis }: Config): Promise<void> {
  if (redis.url === undefined) return
  const connection = connectRedis(redis.url, 'watch')
  try {
    await checkRedis(connection)
  } finally {
    connection.disconnect()
  }
}

/** @throws UserError PORT_IN_USE */
export async function refusePortInUse({ host, port }: Config['http']): Promise<void> {
  const probe = createServer()
  try {
    await new Promise<void>((resolve, reject) => probe.once('error', reject).listen(port, host, resolve))
  } catch (error) {
    const inUse = hasCode(error, 'EADDRINUSE')
    if (!inUse) throw error
    throw new UserError(
      'PORT_IN_USE',
      `http.port ${port} on ${host}: in use by another program; stop it, or choose another with --port (0 = any free)`,
    )
  }
  await new Promise<void>((resolve) => probe.close(() => resolve()))
}

/** How often somebody may change something, and how often an address may be wrong about a token. Counted in this process. */
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'

const WINDOW_MS = 60_000
const MUTATIONS = 60
const WRONG_TOKENS = 10
const MAX_KNOWN = 1000

export interface RateLimits {
  /** Counts an order of this actor. @returns how long to wait, seconds; undefined when it may go on */
  order(request: FastifyRequest): Promise<number | undefined>
  /**
   * Of every token that was shown, after it was compared. Past the limit a right one is refused as well, or guessing would
   * go on; not where a right one came from before: behind a proxy a stranger would lock everybody out.
   *
   * @returns how long to wait, seconds; undefined when the comparison may be told
   */
  tokenShown(request: FastifyRequest, isRight: boolean): Promise<number | undefined>
}

export async function rateLimits(server: FastifyInstance): Promise<RateLimits> {
  await server.register(rateLimit, { global: false })
  const orders = server.createRateLimit({
    max: MUTATIONS,
    timeWindow: WINDOW_MS,
    keyGenerator: ({ access }) => access.actor,
  })
  const wrong = server.createRateLimit({ max: WRONG_TOKENS, timeWindow: WINDOW_MS })
  const known = new Set<string>()
  const wait = (result: Awaited<ReturnType<typeof orders>>, isOver: boolean) =>
    isOver && !result.isAllowed ? Math.max(1, result.ttlInSeconds) : undefined

  return {
    async order(request) {
      const result = await orders(request)
      return wait(result, !result.isAllowed && result.isExceeded)
    },
    async tokenShown(request, isRight) {
      if (!isRight) {
        const result = await wrong(request)
        return wait(result, !result.isAllowed && result.isExceeded)
      }
      if (known.has(request.ip)) return undefined
      const result = await wrong(request, { increment: false })
      const seconds = wait(result, !result.isAllowed && result.remaining === 0)
      if (seconds === undefined) remember(known, request.ip)
      return seconds
    },
  }
}

function remember(known: Set<string>, address: string): void {
  const oldest = known.values().next().value
  if (known.size >= MAX_KNOWN && oldest !== undefined) known.delete(oldest)
  known.add(address)
}

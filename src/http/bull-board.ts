/**
 * bull-board at /queues: the raw view of BullMQ, for what the page does not show. It acts on Redis without this program's
 * rules: no audit entry, no paced release.
 *
 * It knows the configured queues and those that the fleet knows. Its handles write nothing when they open (BullMQ would
 * write a queue's meta), and it answers in bounded time like every other route.
 */
import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import type { IServerAdapter } from '@bull-board/api/typings/app'
import { FastifyAdapter } from '@bull-board/fastify'
import { Queue } from 'bullmq'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Redis } from 'ioredis'
import { TIMED_OUT, within } from '../kernel/within.js'
import type { ReadModel } from './read-model.js'

const PREFIX = '/queues'
const ANSWER_WITHIN_MS = 1500

/**
 * Its page has inline styles and a `<base>`; no inline script that runs. Its font would come from another origin: that
 * link is taken out, and the policy would refuse it.
 */
const POLICY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; frame-ancestors 'none'"
const FOREIGN_LINK = /<link[^>]*href="https?:[^>]*>\s*/g

export interface BullBoardDeps {
  /** Fails at once while Redis is away. Not closed here. */
  readonly redis: Redis
  readonly bullPrefix: string
  /** The configured queues. */
  readonly queues: readonly string[]
  readonly readModel: ReadModel
}

export function addBullBoard(server: FastifyInstance, deps: BullBoardDeps): void {
  const adapter = new BoundedAdapter()
  const handles = new Map<string, Queue>()
  const board = createBullBoard({
    queues: [],
    // @bull-board/fastify may bring an api of its own, whose types differ in private fields only.
    serverAdapter: adapter as unknown as IServerAdapter,
    options: { uiConfig: { boardTitle: 'unstuck · BullMQ', showWorkers: false } },
  })
  adapter.setBasePath(PREFIX)

  const openNew = (names: readonly string[]) => {
    for (const name of names) {
      // Names that BullMQ refuses can only come from somebody else.
      if (handles.has(name) || name === '' || name.includes(':')) continue
      const queue = openQueue(name, deps)
      handles.set(name, queue)
      board.addQueue(new BullMQAdapter(queue))
    }
  }
  openNew(deps.queues)

  server.register(
    async (scope) => {
      scope.addHook('preHandler', async (request, reply) => {
        if (request.method !== 'GET' && mayOnlyRead(request)) return reply.code(403).send(READ_ONLY)
        if (!isApi(request)) return
        if (deps.redis.status !== 'ready') return reply.code(503).send(UNREACHABLE)
        const fleet = await within(deps.readModel.readFleet(), ANSWER_WITHIN_MS).catch(() => undefined)
        if (typeof fleet === 'object') openNew(fleet.queues.map(({ queue }) => queue))
      })
      // The page shows no buttons that would be refused.
      scope.addHook('preSerialization', async (request, _reply, payload) =>
        mayOnlyRead(request) ? withoutVerbs(payload) : payload,
      )
      scope.addHook('onSend', async (_request, reply, payload) => {
        reply.header('content-security-policy', POLICY)
        return typeof payload === 'string' && isHtml(reply.getHeader('content-type'))
          ? payload.replace(FOREIGN_LINK, '')
          : payload
      })
      await scope.register(adapter.registerPlugin())
    },
    { prefix: PREFIX },
  )
  server.addHook('onClose', async () => {
    for (const queue of handles.values()) await queue.close()
  })
}

function openQueue(name: string, { redis, bullPrefix }: BullBoardDeps): Queue {
  const queue = new Queue(name, { connection: redis, prefix: bullPrefix, skipMetasUpdate: true, skipVersionCheck: true })
  // The calls that failed say so.
  queue.on('error', () => undefined)
  return queue
}

type Route = Parameters<FastifyAdapter['setApiRoutes']>[0][number]
type Answer = Awaited<ReturnType<Route['handler']>>

/** Answers in time, or says that Redis does not. */
class BoundedAdapter extends FastifyAdapter {
  override setApiRoutes(routes: Route[]): FastifyAdapter {
    return super.setApiRoutes(routes.map((route) => ({ ...route, handler: bounded(route.handler) })))
  }
}

function bounded(handler: Route['handler']): Route['handler'] {
  return async (request) => {
    const answer = await within(Promise.resolve(handler(request)), ANSWER_WITHIN_MS)
    return answer === TIMED_OUT ? ({ status: 503 as number, body: UNREACHABLE } as Answer) : answer
  }
}

/** In the form that its page reads, and in ours. */
const UNREACHABLE = {
  error: { key: 'ERRORS.INTERNAL_SERVER_ERROR', code: 'REDIS_UNREACHABLE', message: 'Redis did not answer in time' },
  message: 'Redis did not answer in time',
}

const READ_ONLY = { error: { code: 'READ_ONLY', message: 'this token may read only: use http.token' } }

/** Whoever was refused has no access at all. */
const mayOnlyRead = (request: FastifyRequest): boolean => request.access?.rights === 'read'
const isApi = ({ url }: FastifyRequest): boolean => url.startsWith(`${PREFIX}/api/`)
const isHtml = (type: unknown): boolean => String(type).startsWith('text/html')

function withoutVerbs(payload: unknown): unknown {
  if (typeof payload !== 'object' || payload === null || !('queues' in payload) || !Array.isArray(payload.queues))
    return payload
  return { ...payload, queues: payload.queues.map((queue: object) => ({ ...queue, readOnlyMode: true })) }
}

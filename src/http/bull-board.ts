/**
 * bull-board at /queues: the raw view of BullMQ, for what the page does not show. It acts on Redis without this program's
 * rules: nothing is paced. Whatever changes something stands in the queue's audit before it is done, so that nothing is
 * done unseen; what bull-board then refuses stands there too.
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
import { queueKeys } from '../platform/redis-keys.js'
import { writeAudit } from '../recovery/redis-audit.js'
import { MAX_REASON } from '../recovery/reset-policy.js'
import { errorAnswer, errorBody } from './http-errors.js'
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
        if (changes(request) && mayOnlyRead(request)) return reply.code(403).send(READ_ONLY)
        if (!isApi(request)) return
        if (deps.redis.status !== 'ready') return reply.code(503).send(UNREACHABLE)
        const fleet = await within(deps.readModel.readFleet(), ANSWER_WITHIN_MS).catch(() => undefined)
        if (typeof fleet === 'object') openNew(fleet.queues.map(({ queue }) => queue))
        const problem = changes(request) ? await audited(request, [...handles.keys()], deps) : undefined
        if (problem) return reply.code(problem.status).send(errorBody(problem.code, problem.message))
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

/**
 * Writes down who is about to change what, in each queue that it is about.
 * @returns why that cannot be: then nothing may be changed
 */
async function audited(request: FastifyRequest, known: readonly string[], { redis, bullPrefix }: BullBoardDeps) {
  const { queueName, jobId, queueStatus, schedulerId } = request.params as Readonly<Record<string, string | undefined>>
  const entry = {
    action: actionIn(request.routeOptions.url ?? ''),
    by: 'bull-board' as const,
    actor: request.access?.actor ?? 'http',
    ...{ jobId: jobId ?? '', reason: (queueStatus ?? schedulerId ?? '').slice(0, MAX_REASON) },
  }
  const about = known.filter((name) => queueName === undefined || name === queueName)
  const writing = Promise.all(about.map((name) => writeAudit(redis, queueKeys(bullPrefix, name), entry)))
  try {
    return (await within(writing, ANSWER_WITHIN_MS)) === TIMED_OUT ? { status: 503, ...UNREACHABLE.error } : undefined
  } catch (error) {
    return errorAnswer(error)
  }
}

/** `/queues/api/queues/:queueName/:jobId/retry` is `retry`, `…/rate-limit/release` is `rate-limit release`. */
function actionIn(route: string): string {
  const words = route.slice(`${PREFIX}/api/queues`.length).split('/')
  return words.filter((word) => word !== '' && !word.startsWith(':')).join(' ')
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
const changes = ({ method }: FastifyRequest): boolean => method !== 'GET' && method !== 'HEAD'
const isApi = ({ url }: FastifyRequest): boolean => url.startsWith(`${PREFIX}/api/`)
const isHtml = (type: unknown): boolean => String(type).startsWith('text/html')

function withoutVerbs(payload: unknown): unknown {
  if (typeof payload !== 'object' || payload === null || !('queues' in payload) || !Array.isArray(payload.queues))
    return payload
  return { ...payload, queues: payload.queues.map((queue: object) => ({ ...queue, readOnlyMode: true })) }
}

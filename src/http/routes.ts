/** What each address answers. Every answer comes within ANSWER_WITHIN_MS, whatever the store does. */
import type { FastifyInstance } from 'fastify'
import type { Transition } from '../watchdog/incident.js'
import type { WatchView } from '../watchdog/watch-loop.js'
import { type HealthView, healthView } from './health-view.js'
import type { FleetView, ReadModel } from './read-model.js'
import { statusPage } from './status-page.js'

/** Below the 2 s that are promised, with room for the answer itself. */
const ANSWER_WITHIN_MS = 1500
/** Transitions that /api/v1/incidents looks back on. */
const LISTED_TRANSITIONS = 500

export interface RouteDeps {
  readonly readModel: ReadModel
  readonly recent: (limit: number) => Promise<readonly Transition[]>
  readonly watch: () => WatchView
  readonly metrics: (fleet: FleetView | undefined, redisUp: boolean) => Promise<{ contentType: string; text: string }>
  readonly pollStaleThresholdMs: number
}

export function addRoutes(server: FastifyInstance, deps: RouteDeps): void {
  const fleet = () => within(deps.readModel.readFleet())
  const health = (view: FleetView | undefined): HealthView =>
    healthView({ fleet: view, watch: deps.watch(), pollStaleThresholdMs: deps.pollStaleThresholdMs })

  server.get('/livez', async () => ({ status: 'ok' }))
  server.get('/readyz', async (_request, reply) => {
    const { outage, sight, lastCycleAt } = deps.watch()
    const ready = lastCycleAt !== undefined && outage === undefined && sight.judges !== 'none'
    return reply
      .code(ready ? 200 : 503)
      .send({ status: ready ? 'ok' : 'unready', ...(sight.reason ? { reason: sight.reason } : {}) })
  })
  server.get('/metrics', async (_request, reply) => {
    const { outage, sight } = deps.watch()
    const { contentType, text } = await deps.metrics(await fleet(), outage === undefined && sight.reason !== 'unreachable')
    return reply.type(contentType).send(text)
  })
  server.get('/api/v1/health', async () => health(await fleet()))
  server.get('/api/v1/supervisors', async (_request, reply) => {
    const view = await fleet()
    return view ? { supervisors: view.supervisors } : reply.code(503).send(unreachable)
  })
  server.get('/api/v1/queues', async (_request, reply) => {
    const view = await fleet()
    return view ? { queues: view.queues } : reply.code(503).send(unreachable)
  })
  server.get<{ Querystring: { open?: string } }>('/api/v1/incidents', async (request, reply) => {
    const incidents = await within(request.query.open === 'true' ? openIncidents(deps) : allIncidents(deps))
    return incidents ? { incidents } : reply.code(503).send(unreachable)
  })
  server.get('/', async (_request, reply) => {
    const view = await fleet()
    return reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', PAGE_POLICY)
      .send(statusPage(health(view), view))
  })
}

const PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

const unreachable = { error: { code: 'REDIS_UNREACHABLE', message: 'Redis did not answer in time' } }

async function openIncidents({ readModel, watch }: RouteDeps): Promise<object[]> {
  const { incidents } = await readModel.readFleet()
  const { outage } = watch()
  return (outage ? [outage, ...incidents] : incidents).map((incident) => ({ ...incident, open: true }))
}

/** Open ones first, then the ended ones that the stream still knows, newest first. */
async function allIncidents(deps: RouteDeps): Promise<object[]> {
  const [open, transitions] = await Promise.all([openIncidents(deps), deps.recent(LISTED_TRANSITIONS)])
  const ended = transitions.flatMap((transition) => {
    if (transition.event !== 'resumed') return []
    const { incident, outcome, durationMs, at } = transition
    return [{ ...incident, open: false, outcome, durationMs, endedAt: new Date(at).toISOString() }]
  })
  return [...open, ...ended]
}

/** Undefined when it fails or takes too long: the store's silence must not become ours. */
async function within<T>(answer: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ANSWER_WITHIN_MS)
  })
  try {
    return await Promise.race([answer, limit])
  } catch {
    return undefined
  } finally {
    clearTimeout(timer)
  }
}

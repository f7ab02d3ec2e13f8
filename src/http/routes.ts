/** What each address answers. Every answer comes within 2 s, whatever the store does; a stack dump takes its time. */
import type { FastifyInstance } from 'fastify'
import { addOrders } from './api-orders.js'
import { addReads, fleetInTime, healthOf, type ReadDeps } from './api-reads.js'
import { addOpenApi } from './openapi.js'
import { statusPage } from './status-page.js'

export interface RouteDeps extends ReadDeps {
  readonly metrics: (redisUp: boolean) => Promise<{ contentType: string; text: string }>
}

/** To be awaited before other routes of the API are added, so that its description has them too. */
export async function addRoutes(server: FastifyInstance, deps: RouteDeps): Promise<void> {
  addProbes(server, deps)
  await addOpenApi(server)
  addReads(server, deps)
  addOrders(server, deps.api)
  server.get('/status', async (_request, reply) => {
    const fleet = await fleetInTime(deps)
    return reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', PAGE_POLICY)
      .send(statusPage(healthOf(deps, fleet), fleet))
  })
}

const PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

function addProbes(server: FastifyInstance, deps: RouteDeps): void {
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
    const redisUp = outage === undefined && sight.reason !== 'unreachable'
    const { contentType, text } = await deps.metrics(redisUp)
    return reply.type(contentType).send(text)
  })
}

/** What can be ordered: the same verbs as on the command line, through the same control, signed with who asks. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { JobInput } from '../dispatch/job-input.js'
import { UserError } from '../kernel/errors.js'
import type { OrderOptions } from '../recovery/bullmq-control.js'
import type { Api } from './api-port.js'
import { answers, bodies, count, dump, flag, listOf, params, queries, record, text } from './api-schemas.js'
import { jobIdIn } from './http-input.js'

interface OrderBody {
  readonly reason?: string
  readonly dryRun?: boolean
}

interface ToJob {
  Params: { queue: string; id: string }
  Querystring: { id?: string }
  Body: OrderBody | null
}

interface ToQueue<Body = OrderBody> {
  Params: { queue: string }
  Body: Body | null
}

interface ToSupervisor<Body> {
  Params: { id: string }
  Body: Body | null
}

export function addOrders(server: FastifyInstance, api: Api): void {
  addAdding(server, api)
  addJobOrders(server, api)
  addQueueOrders(server, api)
  addSupervisorOrders(server, api)
}

function addAdding(server: FastifyInstance, api: Api): void {
  const schema = {
    summary: 'Add a job, or many (`jobs`); none when one is refused',
    params: params.queue,
    body: bodies.jobs,
    response: answers('Their ids, in order', record({ ids: listOf(text) }), 201),
  }
  type Adding = { Params: { queue: string }; Body: JobInput & { readonly jobs?: readonly JobInput[] } }
  server.post<Adding>('/api/v1/queues/:queue/jobs', { schema }, async ({ params: { queue }, body }, reply) => {
    const { jobs, ...single } = body
    if (jobs && Object.keys(single).length > 0)
      throw new UserError('INPUT_INVALID', 'jobs: cannot stand beside the fields of a single job; leave one of them out')
    return reply.code(201).send({ ids: await api.addBulk(queue, jobs ?? [single]) })
  })
}

function addJobOrders(server: FastifyInstance, api: Api): void {
  const of = { queue: text, jobId: text }
  const reset = {
    summary: 'Give a job all its attempts again and put it back',
    ...{ params: params.job, querystring: queries.job, body: bodies.order },
    response: answers('It is in line', record({ ...of, attemptsBefore: count }, { runsInMs: count, dryRun: flag })),
  }
  server.post<ToJob>('/api/v1/queues/:queue/jobs/:id/reset', { schema: reset }, async (request) => {
    const { queue } = request.params
    const jobId = jobIdIn(request)
    return answer(request, { queue, jobId, ...(await api.reset(queue, jobId, signed(request))) })
  })
  const cancel = {
    summary: 'Cancel a job, wherever it is',
    ...{ params: params.job, querystring: queries.job, body: bodies.order },
    response: answers('It is cancelled, or told to stop', record({ ...of, state: text }, { supervisor: text, dryRun: flag })),
  }
  server.post<ToJob>('/api/v1/queues/:queue/jobs/:id/cancel', { schema: cancel }, async (request) => {
    const { queue } = request.params
    const jobId = jobIdIn(request)
    return answer(request, { queue, jobId, ...(await api.cancel(queue, jobId, signed(request))) })
  })
}

function addQueueOrders(server: FastifyInstance, api: Api): void {
  const reset = {
    summary: 'Put all exhausted jobs of a queue back, at its pace; answers when that is ordered',
    ...{ params: params.queue, body: bodies.bulkReset },
    response: answers('How many, and how fast', record({ queue: text, jobs: count, perSecond: count }, { dryRun: flag })),
  }
  type Reset = ToQueue<OrderBody & { readonly group?: string; readonly failed?: boolean }>
  server.post<Reset>('/api/v1/queues/:queue/reset', { schema: reset }, async (request) => {
    const { queue } = request.params
    const { group, failed: permanent = false } = request.body ?? {}
    const scope = { ...(group === undefined ? {} : { group }), permanent }
    return answer(request, { queue, ...(await api.resetAll(queue, { ...signed(request), ...scope })) })
  })
  for (const action of ['pause', 'resume'] as const) {
    const schema = {
      summary:
        action === 'pause' ? 'Let a queue keep its jobs; what runs goes on' : 'Let a paused queue give its jobs out again',
      ...{ params: params.queue, body: bodies.order },
      response: answers(
        'Whether that changed anything',
        record({ queue: text, action: text, changed: flag }, { dryRun: flag }),
      ),
    }
    server.post<ToQueue>(`/api/v1/queues/:queue/${action}`, { schema }, async (request) => {
      const { queue } = request.params
      return answer(request, { queue, action, changed: await api[action](queue, signed(request)) })
    })
  }
}

function addSupervisorOrders(server: FastifyInstance, api: Api): void {
  const look = {
    summary: 'Where the threads of a supervisor are now; takes up to seconds when `deep`',
    ...{ params: params.supervisor, body: bodies.dump },
    response: answers('The dumps', record({ dumps: listOf(dump) })),
  }
  type Look = ToSupervisor<{ readonly thread?: string; readonly deep?: boolean }>
  server.post<Look>('/api/v1/supervisors/:id/dump', { schema: look }, async (request) => ({
    dumps: await api.dump(request.params.id, request.body ?? {}),
  }))
  const drain = {
    summary: 'Let a supervisor take no more jobs, finish what runs and leave',
    ...{ params: params.supervisor, body: bodies.drain },
    response: answers('How many jobs it runs now', record({ supervisor: text, running: count }, { dryRun: flag })),
  }
  server.post<ToSupervisor<OrderBody>>('/api/v1/supervisors/:id/drain', { schema: drain }, async (request) => {
    const { id } = request.params
    const { dryRun = false } = request.body ?? {}
    return answer(request, { supervisor: id, running: await api.drain(id, { dryRun }) })
  })
}

/** What was asked, and who asks. */
function signed(request: FastifyRequest<{ Body: OrderBody | null }>): OrderOptions {
  const { reason, dryRun = false } = request.body ?? {}
  return { actor: actorOf(request), dryRun, ...(reason === undefined ? {} : { reason }) }
}

/** As on the command line: a dry run says that it was one. */
function answer(request: FastifyRequest<{ Body: OrderBody | null }>, done: object): object {
  return request.body?.dryRun ? { dryRun: true, ...done } : done
}

/** Undefined where nobody decides about access: on a server in a test. */
function actorOf({ access }: { readonly access?: { readonly actor: string } }): string {
  return access?.actor ?? 'http'
}

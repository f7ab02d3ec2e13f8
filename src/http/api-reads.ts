/** What can be asked: the fleet out of the read model, jobs and dumps out of the store. Every answer comes within 2 s. */
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { JobListOptions } from '../dispatch/job-list.js'
import { UserError } from '../kernel/errors.js'
import { within } from '../kernel/within.js'
import { queueUnknown, supervisorUnknown } from '../recovery/refusals.js'
import type { Transition } from '../watchdog/incident.js'
import type { WatchView } from '../watchdog/watch-loop.js'
import type { Api } from './api-port.js'
import {
  answers,
  dump,
  health,
  incident,
  job,
  listedJob,
  listOf,
  params,
  queries,
  queue,
  record,
  supervisor,
  text,
} from './api-schemas.js'
import { type HealthView, healthView } from './health-view.js'
import { jobIdIn } from './http-input.js'
import type { FleetView, ReadModel } from './read-model.js'
import { jsonOf, SharedAnswers, writtenOnce } from './shared-answers.js'

/** Below the 2 s that are promised, with room for the answer itself. */
const ANSWER_WITHIN_MS = 1500
/** Transitions that /api/v1/incidents looks back on. */
const LISTED_TRANSITIONS = 500
/** With all the open ones among them, however many those are. */
const LISTED_INCIDENTS = 50
const NAMED_SUPERVISORS = 20

export interface ReadDeps {
  readonly api: Api
  readonly readModel: ReadModel
  readonly recent: (limit: number) => Promise<readonly Transition[]>
  readonly watch: () => WatchView
  readonly pollStaleThresholdMs: number
  /** A sign of life of the store; rejects when it is known to be away. */
  readonly signOfLife: () => Promise<unknown>
}

export function addReads(server: FastifyInstance, deps: ReadDeps): void {
  const shared = new SharedAnswers(() => deps.signOfLife())
  server.addHook('onSend', (request, _reply, payload, done) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') shared.forget()
    done(null, payload)
  })
  addHealth(server, deps)
  addIncidents(server, deps, shared)
  addSupervisors(server, deps)
  addQueues(server, deps)
  addJobs(server, deps, shared)
}

/** What is written out already. */
function sendJson(reply: FastifyReply, json: Buffer): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(json)
}

/** Undefined when it cannot be read in time: the store's silence must not become ours. */
export async function fleetInTime({ readModel }: Pick<ReadDeps, 'readModel'>): Promise<FleetView | undefined> {
  const fleet = await within(readModel.readFleet(), ANSWER_WITHIN_MS).catch(() => undefined)
  return typeof fleet === 'symbol' ? undefined : fleet
}

/** @param fleet undefined: it could not be read */
export function healthOf({ watch, pollStaleThresholdMs }: ReadDeps, fleet: FleetView | undefined): HealthView {
  return healthView({ fleet, watch: watch(), pollStaleThresholdMs })
}

function addHealth(server: FastifyInstance, deps: ReadDeps): void {
  const schema = {
    summary: 'Whether anything is stuck',
    response: { 200: { ...health, description: 'Also when Redis is away: `unknown`' } },
  }
  const written = writtenHealth(deps)
  server.get('/api/v1/health', { schema }, async (_request, reply) => sendJson(reply, written(await fleetInTime(deps))))
}

/** Made anew when what it is made of is another: the fleet that was read, or what the watchdog knows of itself. */
function writtenHealth(deps: ReadDeps): (fleet: FleetView | undefined) => Buffer {
  let last: { fleet: FleetView | undefined; watch: WatchView; json: Buffer } | undefined
  return (fleet) => {
    const watch = deps.watch()
    const isSame = last?.fleet === fleet && last?.watch.sight === watch.sight && last.watch.outage === watch.outage
    if (!last || !isSame) last = { fleet, watch, json: jsonOf(healthOf(deps, fleet)) }
    return last.json
  }
}

function addIncidents(server: FastifyInstance, deps: ReadDeps, shared: SharedAnswers): void {
  const schema = {
    summary: 'Incidents: the open ones first, then those that ended, the latest first',
    querystring: queries.incidents,
    response: answers('Incidents', record({ incidents: listOf(incident) })),
  }
  type Asked = { open?: boolean; limit?: number }
  const read = async (asked: Asked) => {
    const incidents = await within(incidentsFor(deps, asked), ANSWER_WITHIN_MS).catch(() => undefined)
    if (incidents === undefined || typeof incidents === 'symbol') throw unreachable()
    return { incidents }
  }
  server.get<{ Querystring: Asked }>('/api/v1/incidents', { schema }, async ({ query }, reply) =>
    sendJson(reply, await shared.of(JSON.stringify(['incidents', query.open, query.limit]), () => read(query))),
  )
}

function addSupervisors(server: FastifyInstance, deps: ReadDeps): void {
  const list = answers('Supervisors', record({ supervisors: listOf(supervisor) }))
  server.get('/api/v1/supervisors', { schema: { summary: 'All supervisors', response: list } }, async (_request, reply) => {
    const { supervisors } = await fleetOf(deps)
    return sendJson(
      reply,
      writtenOnce(supervisors, () => ({ supervisors })),
    )
  })
  const schema = { summary: 'One supervisor', params: params.supervisor, response: answers('A supervisor', supervisor) }
  server.get<{ Params: { id: string } }>('/api/v1/supervisors/:id', { schema }, async ({ params: { id } }) => {
    const { supervisors } = await fleetOf(deps)
    const found = supervisors.find(({ name }) => name === id)
    if (found) return found
    const live = supervisors.filter(({ state }) => state === 'running' || state === 'starting' || state === 'draining')
    throw supervisorUnknown(
      id,
      live.slice(0, NAMED_SUPERVISORS).map(({ name }) => name),
    )
  })
}

function addQueues(server: FastifyInstance, deps: ReadDeps): void {
  const list = answers('Queues', record({ queues: listOf(queue) }))
  server.get('/api/v1/queues', { schema: { summary: 'All queues', response: list } }, async (_request, reply) => {
    const { queues } = await fleetOf(deps)
    return sendJson(
      reply,
      writtenOnce(queues, () => ({ queues })),
    )
  })
  const schema = { summary: 'One queue', params: params.queue, response: answers('A queue', queue) }
  server.get<{ Params: { queue: string } }>('/api/v1/queues/:queue', { schema }, async ({ params: { queue: name } }) => {
    const { queues } = await fleetOf(deps)
    const found = queues.find((candidate) => candidate.queue === name)
    if (found) return found
    throw queueUnknown(
      JSON.stringify(name.slice(0, 100)).slice(1, -1),
      queues.map((known) => known.queue),
    )
  })
}

function addJobs(server: FastifyInstance, { api }: ReadDeps, shared: SharedAnswers): void {
  const list = {
    summary: 'Jobs of a queue, page by page; a page that names a cursor is not the last one, also when it is not full',
    params: params.queue,
    querystring: queries.jobs,
    response: answers('A page', record({ jobs: listOf(listedJob) }, { cursor: text })),
  }
  server.get<{ Params: { queue: string }; Querystring: JobListOptions }>(
    '/api/v1/queues/:queue/jobs',
    { schema: list },
    async ({ params: { queue: name }, query }, reply) => {
      const { status, limit, cursor } = query
      const question = JSON.stringify(['jobs', name, status, limit, cursor])
      return sendJson(reply, await shared.of(question, () => api.jobs(name, query)))
    },
  )
  const found = {
    summary: 'The jobs of an id, in whichever queues they are; none when there is none',
    querystring: queries.found,
    response: answers('Jobs', record({ jobs: listOf(job) })),
  }
  server.get<{ Querystring: { id: string; queue?: string } }>(
    '/api/v1/jobs',
    { schema: found },
    async ({ query: { id, queue: name } }) => ({ jobs: await api.find(id, name) }),
  )
  const one = {
    summary: 'One job, and why it does not run',
    ...{ params: params.job, querystring: queries.job },
    response: answers('A job', job),
  }
  server.get<{ Params: { queue: string; id: string }; Querystring: { id?: string } }>(
    '/api/v1/queues/:queue/jobs/:id',
    { schema: one },
    async (request) => api.job(request.params.queue, jobIdIn(request)),
  )
  const kept = {
    summary: 'A stack dump that was taken in the last day',
    params: params.dump,
    response: answers('A dump', dump),
  }
  server.get<{ Params: { id: string } }>('/api/v1/dumps/:id', { schema: kept }, async ({ params: { id } }) => {
    const found = await api.readDump(id)
    if (found) return found
    const shown = JSON.stringify(id.slice(0, 100))
    throw new UserError('DUMP_UNKNOWN', `dump ${shown}: none of this id is kept; dumps are kept for a day, so take a new one`)
  })
}

async function fleetOf(deps: ReadDeps): Promise<FleetView> {
  const fleet = await fleetInTime(deps)
  if (!fleet) throw unreachable()
  return fleet
}

async function openIncidents({ readModel, watch }: ReadDeps): Promise<object[]> {
  const { incidents } = await readModel.readFleet()
  const { outage } = watch()
  return (outage ? [outage, ...incidents] : incidents).map((found) => ({ ...found, open: true }))
}

/** Open ones first, then the ended ones that the stream still knows, newest first. Unless asked to, none of the open ones is left out. */
async function incidentsFor(deps: ReadDeps, asked: { readonly open?: boolean; readonly limit?: number }): Promise<object[]> {
  const [open, transitions] = await Promise.all([openIncidents(deps), asked.open ? [] : deps.recent(LISTED_TRANSITIONS)])
  const ended = transitions.flatMap((transition) => {
    if (transition.event !== 'resumed') return []
    const { outcome, durationMs, at } = transition
    return [{ ...transition.incident, open: false, outcome, durationMs, endedAt: new Date(at).toISOString() }]
  })
  return [...open, ...ended].slice(0, asked.limit ?? Math.max(LISTED_INCIDENTS, open.length))
}

function unreachable(): UserError {
  return new UserError('REDIS_UNREACHABLE', 'Redis did not answer in time; check Redis')
}

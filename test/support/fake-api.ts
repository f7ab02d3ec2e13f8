/** A watchdog's API without a watchdog: fixed answers that a test changes, for the tests of the page. */
import { type FastifyInstance, type FastifyReply, fastify } from 'fastify'
import type { JobInfo, JobStatus } from '../../src/dispatch/explain.js'
import type { QueueFacts } from '../../src/heartbeat/queue-facts.js'
import { addDashboard } from '../../src/http/dashboard-files.js'
import { healthView } from '../../src/http/health-view.js'
import type { LoopView, SupervisorView } from '../../src/http/read-model.js'
import type { Dump } from '../../src/stackdump/dump.js'
import type { Incident } from '../../src/watchdog/incident.js'

/** As the real server sends it. */
const POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
const BEAT_MS = 500

export interface World {
  supervisors: SupervisorView[]
  queues: QueueFacts[]
  incidents: Incident[]
  past: object[]
  jobs: JobInfo[]
  dumps: Dump[]
  /** Every answer is 503. */
  isAway: boolean
  /** What the next order is refused with. */
  refusal: string | undefined
  /** Orders wait for it. */
  gate: Promise<void>
}

export interface FakeApi {
  readonly url: string
  readonly world: World
  /** Orders that came, as `POST path body`. */
  readonly orders: readonly string[]
  /** Something changed: pages read again. */
  changed(): void
  /** Ends every event stream, and refuses new ones until told. */
  cutStreams(isCut: boolean): void
  stop(): Promise<void>
}

export async function startFakeApi(given: Partial<World> = {}): Promise<FakeApi> {
  const world: World = {
    ...{ supervisors: [], queues: [], incidents: [], past: [], jobs: [], dumps: [] },
    ...{ isAway: false, refusal: undefined, gate: Promise.resolve() },
    ...given,
  }
  const server = fastify({ forceCloseConnections: true })
  const orders: string[] = []
  server.addHook('onSend', async (_request, reply) => void reply.header('content-security-policy', POLICY))
  addReads(server, world)
  addOrders(server, world, orders)
  const streams = addStream(server)
  await addDashboard(server)
  const url = await server.listen({ host: '127.0.0.1', port: 0 })
  const stop = async () => {
    streams.cut(true)
    await server.close()
  }
  return { url, world, orders, changed: streams.changed, cutStreams: streams.cut, stop }
}

function addReads(server: FastifyInstance, world: World): void {
  const away = (reply: FastifyReply) =>
    reply.code(503).send({ error: { code: 'REDIS_UNREACHABLE', message: 'Redis did not answer in time' } })
  const read = (path: string, answer: (query: Record<string, string>, params: Record<string, string>) => object | undefined) =>
    server.get<{ Querystring: Record<string, string>; Params: Record<string, string> }>(
      `/api/v1${path}`,
      async (request, reply) => {
        if (world.isAway) return away(reply)
        const found = answer(request.query, request.params)
        return found ?? reply.code(404).send({ error: { code: 'JOB_UNKNOWN', message: 'there is none' } })
      },
    )
  server.get('/api/v1/health', async () =>
    healthView({
      fleet: world.isAway ? undefined : world,
      watch: {
        sight: { judges: 'all', reason: undefined, clearForMs: 60_000, blindForMs: 0 },
        outage: undefined,
        lastCycleAt: Date.now(),
      },
      pollStaleThresholdMs: 60_000,
    }),
  )
  read('/supervisors', () => ({ supervisors: world.supervisors }))
  read('/queues', () => ({ queues: world.queues }))
  read('/incidents', () => ({ incidents: [...world.incidents.map((one) => ({ ...one, open: true })), ...world.past] }))
  read('/history', () => historyOf(world))
  read('/dumps/:id', (_query, { id }) => world.dumps.find((dump) => dump.id === id))
  read('/jobs', ({ id, queue }) => ({
    jobs: world.jobs.filter((job) => job.id === id && (queue === undefined || job.queue === queue)),
  }))
  read('/queues/:queue/jobs', (query, { queue }) => pageOf(world.jobs, queue ?? '', query))
  read('/queues/:queue/jobs/:id', (_query, { queue, id }) => world.jobs.find((job) => job.queue === queue && job.id === id))
}

function pageOf(jobs: readonly JobInfo[], queue: string, { status, limit = '50', cursor = '0' }: Record<string, string>) {
  const all = jobs.filter((job) => job.queue === queue && (status === undefined || job.status === status))
  const end = Number(cursor) + Number(limit)
  return { jobs: all.slice(Number(cursor), end), ...(end < all.length ? { cursor: String(end) } : {}) }
}

const SAMPLES = 180

function historyOf({ supervisors, queues }: World) {
  const now = Date.now()
  const wave = (size: number, phase: number) =>
    Array.from({ length: SAMPLES }, (_, at) => Math.round(size * (1 + Math.sin(at / 12 + phase)) + (at % 7)))
  return {
    stepMs: 5000,
    times: Array.from({ length: SAMPLES }, (_, at) => now - (SAMPLES - at) * 5000),
    loops: supervisors.flatMap(({ name, loops }) =>
      loops.map(({ loop, queue, lagMs, stale }) => ({
        ...{ supervisor: name, loop, ...(queue === undefined ? {} : { queue }) },
        lagMs: wave(40, name.length).map((value, at) => (stale && at > 150 ? Math.round((lagMs * (at - 150)) / 30) : value)),
      })),
    ),
    queues: queues.map(({ queue, waiting, active, delayed, exhausted }, at) => ({
      queue,
      waiting: wave(waiting / 2, at),
      active: wave(active / 2, at + 1),
      delayed: wave(delayed / 2, at + 2),
      exhausted: wave(exhausted / 2, at + 3),
      oldestWaitingMs: wave(4000, at),
    })),
  }
}

function addOrders(server: FastifyInstance, world: World, orders: string[]): void {
  const order = (path: string, act: (params: Record<string, string>, body: Record<string, unknown>) => object) =>
    server.post<{ Params: Record<string, string>; Body: Record<string, unknown> }>(`/api/v1${path}`, async (request, reply) => {
      orders.push(`POST ${request.url.replace('/api/v1', '')} ${JSON.stringify(request.body)}`)
      await world.gate
      const refused = world.refusal
      world.refusal = undefined
      if (refused !== undefined) return reply.code(409).send({ error: { code: 'JOB_REFUSED', message: refused } })
      return act(request.params, request.body)
    })
  const replace = (queue = '', id = '', changes: Partial<JobInfo>) => {
    world.jobs = world.jobs.map((job) => (job.queue === queue && job.id === id ? { ...job, ...changes } : job))
    return {}
  }
  order('/queues/:queue/jobs/:id/reset', ({ queue, id }) => replace(queue, id, RESET))
  order('/queues/:queue/jobs/:id/cancel', ({ queue, id }) =>
    replace(queue, id, { status: 'cancelled', reason: 'cancelled', why: 'cancelled' }),
  )
  order('/queues/:queue/reset', ({ queue = '' }, { dryRun }) => {
    const exhausted = world.jobs.filter((job) => job.queue === queue && job.status === 'exhausted')
    if (dryRun !== true) for (const { id } of exhausted) replace(queue, id, RESET)
    return { jobs: exhausted.length, perSecond: 10 }
  })
  const pausing = (paused: boolean) => (params: Record<string, string>) => {
    world.queues = world.queues.map((one) => (one.queue === params['queue'] ? { ...one, paused } : one))
    return {}
  }
  order('/queues/:queue/pause', pausing(true))
  order('/queues/:queue/resume', pausing(false))
  order('/supervisors/:id/dump', () => ({ dumps: world.dumps }))
  order('/supervisors/:id/drain', () => ({}))
}

const RESET: Partial<JobInfo> = {
  ...{ status: 'waiting', attemptsMade: 0, resets: 0 },
  ...{ reason: 'next', why: 'waits: it is the next to be taken' },
}

function addStream(server: FastifyInstance) {
  const open = new Set<{ write(text: string): unknown; end(): unknown }>()
  let stamp = 0
  let isCut = false
  server.get('/api/v1/events', (_request, reply) => {
    if (isCut) return void reply.code(503).send({})
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write(': ping\n\n')
    open.add(reply.raw)
    reply.raw.once('close', () => open.delete(reply.raw))
  })
  const say = () => {
    for (const stream of open) stream.write(`event: fleet\ndata: ${JSON.stringify({ version: stamp })}\n\n`)
  }
  const timer = setInterval(say, BEAT_MS)
  server.addHook('onClose', async () => clearInterval(timer))
  return {
    changed() {
      stamp += 1
      say()
    },
    cut(next: boolean) {
      isCut = next
      if (next) for (const stream of open) stream.end()
    },
  }
}

export function makeQueue(queue: string, facts: Partial<QueueFacts> = {}): QueueFacts {
  return {
    ...{ queue, waiting: 0, active: 0, delayed: 0, completed: 0, failed: 0, exhausted: 0, permanent: 0 },
    ...{ breakersOpen: [], paused: false, limitedMs: 0, maxed: false, head: undefined, headAgeMs: undefined },
    ...{ overdueSchedulers: [], eligible: 1, free: 1 },
    ...facts,
  }
}

export function makeLoop(loop: 'fetch' | 'reconcile', queue?: string, view: Partial<LoopView> = {}): LoopView {
  return {
    ...{ loop, ...(queue === undefined ? {} : { queue }), state: 'running', phase: 'idle', inFlight: false },
    ...{ cycles: 12, skipped: 0, lagMs: 40, thresholdMs: 60_000, stale: false },
    lastEndedAt: new Date(Date.now() - (view.lagMs ?? 40)).toISOString(),
    ...view,
  }
}

export function makeSupervisor(name: string, queue: string, view: Partial<SupervisorView> = {}): SupervisorView {
  return {
    ...{ name, state: 'running', heartbeatAgeMs: 400, incarnation: `${name}-1`, host: 'box', pid: 1234, version: '0.1.0' },
    uptimeMs: 3_700_000,
    loops: [makeLoop('fetch', queue, { phase: 'moveToActive' }), makeLoop('reconcile')],
    slots: [{ queue, size: 4, busy: 0, eligible: true }],
    jobs: [],
    ...view,
  }
}

export function makeJob(queue: string, id: string, status: JobStatus, view: Partial<JobInfo> = {}): JobInfo {
  return {
    ...{ id, queue, name: 'send', status, attemptsMade: 0, attemptsMax: 8, resets: 0, fence: 1 },
    ...{ why: `it is ${status}`, reason: 'next' },
    ...view,
  }
}

export function makeIncident(given: Partial<Incident> & Pick<Incident, 'cause' | 'subjectKind' | 'subject'>): Incident {
  const ageMs = given.ageMs ?? 90_000
  const opened = Date.now() - ageMs
  return {
    ...{ ageMs, thresholdMs: 60_000, seq: 1, openedAtRedisMs: opened, incidentId: `inc-${given.subject}` },
    ...{ since: new Date(opened).toISOString(), watchdogId: 'wd-1', count: 1, lastAtRedisMs: Date.now() },
    ...{ held: false, heldBack: 0 },
    ...given,
  }
}

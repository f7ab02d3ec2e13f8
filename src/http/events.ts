/**
 * `/api/v1/events`: server-sent events for pages and programs. What got stuck and what resumed comes from the stream in
 * Redis, each with its place there, so that a client that was away misses nothing and hears nothing twice, also when it
 * comes back to another watchdog. Beside them, without a place: `fleet`, that there is something new to ask for, and
 * `store`, whether this watchdog reaches Redis.
 */
import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { WatchView } from '../watchdog/watch-loop.js'
import { EventHub } from './event-hub.js'
import type { FleetView, ReadModel } from './read-model.js'
import { PLACE, type TransitionTail } from './redis-transition-tail.js'
import { frameOf, SseClient } from './sse-client.js'

const MAX_CLIENTS = 500
const PING_MS = 15_000
const FLEET_MS = 2000
/** How often it is asked whether Redis came or went, and a failed look back is tried again, milliseconds. */
const STORE_MS = 250
/** A client is sent away after so long, and comes back by itself: whoever lost the right to listen does not, milliseconds. */
const LISTENS_MS = 3_600_000
/** What a browser waits before it comes back, milliseconds. */
const RETRY = Buffer.from('retry: 2000\n\n')
const PING = Buffer.from(': ping\n\n')

export interface EventsDeps {
  /** Stopped with the server. */
  readonly tail: TransitionTail
  readonly readModel: ReadModel
  readonly watch: () => WatchView
}

export function addEvents(server: FastifyInstance, deps: EventsDeps): void {
  const hub = new EventHub(deps.tail)
  let timers: NodeJS.Timeout[] = []

  server.addHook('onReady', async () => {
    hub.start()
    timers = startTimers(hub, deps)
  })
  // Before the connections are closed: an end is an end, and no fault of the line.
  server.addHook('preClose', async () => {
    for (const timer of timers) clearInterval(timer)
    await hub.stop()
  })
  server.get<{ Querystring: { since?: string } }>(
    '/api/v1/events',
    { exposeHeadRoute: false, schema: EVENTS_SCHEMA },
    (request, reply) => {
      if (hub.size >= MAX_CLIENTS) return reply.code(503).send(TOO_MANY)
      reply.hijack()
      const client = new SseClient(reply.raw, reply.getHeaders())
      client.send(RETRY)
      client.send(storeFrame(reaches(deps.watch())))
      endAfter(LISTENS_MS, client)
      hub.join(client, placeOf(request))
    },
  )
}

const EVENTS_SCHEMA = {
  summary: 'Server-sent events: stuck, resumed, flapping (a transition as data), fleet, store, reset',
  querystring: {
    type: 'object',
    properties: {
      since: {
        type: 'string',
        pattern: PLACE.source,
        description: 'The id of the last event that is known; the header Last-Event-ID wins',
      },
    },
  },
}

const TOO_MANY = {
  error: { code: 'TOO_MANY_CLIENTS', message: `${MAX_CLIENTS} clients listen to events already: try again later` },
}

/** One that cannot be a place is before all: the client is told to start anew. */
function placeOf({ headers, query }: FastifyRequest<{ Querystring: { since?: string } }>): string | undefined {
  const header = headers['last-event-id']
  if (typeof header !== 'string' || header === '') return query.since
  return PLACE.test(header) ? header : '0-0'
}

function startTimers(hub: EventHub, { readModel, watch }: EventsDeps): NodeJS.Timeout[] {
  let wasReachable = reaches(watch())
  const watchStore = () => {
    const isReachable = reaches(watch())
    if (isReachable !== wasReachable) hub.send(storeFrame(isReachable))
    wasReachable = isReachable
    hub.resumeAll()
  }
  // Also while Redis is away: a page tells by it that the line holds.
  const tellFleet = async () => {
    if (hub.size === 0) return
    const fleet = await readModel.readFleet().catch(() => undefined)
    hub.send(frameOf({ event: 'fleet', data: JSON.stringify({ version: fleet ? versionOf(fleet) : null }) }))
  }
  return [
    setInterval(watchStore, STORE_MS),
    setInterval(() => void tellFleet(), FLEET_MS),
    setInterval(() => hub.send(PING), PING_MS),
  ]
}

function endAfter(ms: number, client: SseClient): void {
  const timer = setTimeout(() => client.end(), ms)
  timer.unref()
  client.onGone(() => clearTimeout(timer))
}

const reaches = ({ outage, sight }: WatchView): boolean => outage === undefined && sight.reason !== 'unreachable'

const storeFrame = (reachable: boolean): Buffer => frameOf({ event: 'store', data: JSON.stringify({ reachable }) })

/** What is another one at every look: ages and counts of rounds. */
const EVER_CHANGING = new Set([
  ...['heartbeatAgeMs', 'uptimeMs', 'lagMs', 'cycles', 'skipped', 'lastStartedAt', 'lastEndedAt', 'phase', 'inFlight'],
  ...['runningMs', 'silentMs', 'stepMs', 'headAgeMs', 'limitedMs', 'ageMs', 'count', 'lastAtRedisMs'],
])

/** The same as long as nothing but ages has changed. */
function versionOf(fleet: FleetView): string {
  const text = JSON.stringify(fleet, (key, value: unknown) => (EVER_CHANGING.has(key) ? undefined : value))
  return createHash('sha256').update(text).digest('base64url').slice(0, 12)
}

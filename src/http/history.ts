/**
 * The last quarter of an hour of the fleet, for the curves of the page: a ring of samples in memory. It belongs to this
 * watchdog and begins with it; what nobody could read is a gap (null) and never a zero.
 */
import type { FastifyInstance } from 'fastify'
import type { Clock } from '../kernel/clock.js'
import { within } from '../kernel/within.js'
import type { FleetView, ReadModel } from './read-model.js'

export const STEP_MS = 5000
const KEPT_MINUTES = 15
const SAMPLES = (KEPT_MINUTES * 60_000) / STEP_MS
/** A reading that takes longer is a gap, milliseconds. */
const READ_WITHIN_MS = 2500
/** The connection of a watchdog that has just started is not there yet, milliseconds. */
const FIRST_AFTER_MS = 500

type Curve = (number | null)[]

export interface HistoryView {
  readonly stepMs: number
  /** Wall clock of each sample, milliseconds. */
  readonly times: readonly number[]
  readonly loops: readonly { supervisor: string; loop: string; queue?: string; lagMs: Curve }[]
  readonly queues: readonly {
    queue: string
    waiting: Curve
    delayed: Curve
    active: Curve
    exhausted: Curve
    oldestWaitingMs: Curve
  }[]
}

const MEASURES = ['waiting', 'delayed', 'active', 'exhausted', 'oldestWaitingMs'] as const

interface Series<Name> {
  readonly name: Name
  /** One ring for each measure; NaN is a gap. */
  readonly rings: readonly Float64Array[]
  lastSample: number
}

type LoopName = { readonly supervisor: string; readonly loop: string; readonly queue?: string }

/** Knows no clock: whoever records says when it is. */
export class History {
  /** Counts all samples; a sample lies at its number modulo the size of the ring. */
  #taken = 0
  readonly #times = new Float64Array(SAMPLES)
  readonly #loops = new Map<string, Series<LoopName>>()
  readonly #queues = new Map<string, Series<string>>()

  /** @param fleet undefined: it could not be read */
  record(at: number, fleet: FleetView | undefined): void {
    const sample = this.#taken++
    this.#times[sample % SAMPLES] = at
    for (const series of [...this.#loops.values(), ...this.#queues.values()])
      for (const ring of series.rings) ring[sample % SAMPLES] = Number.NaN
    for (const { name: supervisor, loops } of fleet?.supervisors ?? []) {
      for (const { loop, queue, lagMs } of loops) {
        const name = { supervisor, loop, ...(queue === undefined ? {} : { queue }) }
        put(this.#loops, JSON.stringify(name), name, sample, [lagMs])
      }
    }
    for (const { queue, waiting, delayed, active, exhausted, headAgeMs = 0 } of fleet?.queues ?? [])
      put(this.#queues, queue, queue, sample, [waiting, delayed, active, exhausted, Math.max(0, headAgeMs)])
    forget(this.#loops, sample)
    forget(this.#queues, sample)
  }

  /** @param minutes how far back, at most the 15 that are kept */
  view(minutes = KEPT_MINUTES): HistoryView {
    const count = Math.min(this.#taken, SAMPLES, Math.ceil((minutes * 60_000) / STEP_MS))
    const slots = Array.from({ length: count }, (_, i) => (this.#taken - count + i) % SAMPLES)
    const curve = (ring: Float64Array | undefined): Curve =>
      slots.map((slot) => {
        const value = ring?.[slot] ?? Number.NaN
        return Number.isNaN(value) ? null : Math.round(value)
      })
    return {
      stepMs: STEP_MS,
      times: slots.map((slot) => this.#times[slot] ?? 0),
      loops: [...this.#loops.values()].map(({ name, rings }) => ({ ...name, lagMs: curve(rings[0]) })),
      queues: [...this.#queues.values()].map(({ name, rings: [waiting, delayed, active, exhausted, oldest] }) => ({
        queue: name,
        waiting: curve(waiting),
        delayed: curve(delayed),
        active: curve(active),
        exhausted: curve(exhausted),
        oldestWaitingMs: curve(oldest),
      })),
    }
  }
}

function put<Name>(all: Map<string, Series<Name>>, key: string, name: Name, sample: number, values: readonly number[]): void {
  let series = all.get(key)
  if (!series) {
    const rings = values.map(() => new Float64Array(SAMPLES).fill(Number.NaN))
    series = { name, rings, lastSample: sample }
    all.set(key, series)
  }
  series.lastSample = sample
  for (const [index, value] of values.entries()) {
    const ring = series.rings[index]
    if (ring) ring[sample % SAMPLES] = value
  }
}

/** Supervisors come and go: one of which nothing is left in the ring is not kept. */
function forget<Name>(all: Map<string, Series<Name>>, sample: number): void {
  for (const [key, { lastSample }] of all) if (sample - lastSample >= SAMPLES) all.delete(key)
}

export interface HistoryDeps {
  readonly readModel: ReadModel
  readonly clock: Clock
}

export function addHistory(server: FastifyInstance, { readModel, clock }: HistoryDeps): void {
  const history = new History()
  const timers: NodeJS.Timeout[] = []
  let isSampling = false
  const sample = async () => {
    if (isSampling) return
    isSampling = true
    const fleet = await within(readModel.readFleet(), READ_WITHIN_MS).catch(() => undefined)
    history.record(clock.now(), typeof fleet === 'object' ? fleet : undefined)
    isSampling = false
  }
  const start = () => {
    timers.push(setInterval(() => void sample(), STEP_MS))
    void sample()
  }

  server.addHook('onReady', async () => void timers.push(setTimeout(start, FIRST_AFTER_MS)))
  server.addHook('preClose', async () => {
    for (const timer of timers) clearInterval(timer)
  })
  server.get<{ Querystring: { minutes: number } }>(
    '/api/v1/history',
    { schema: HISTORY_SCHEMA },
    async ({ query: { minutes } }) => history.view(minutes),
  )
}

const curve = { type: 'array', items: { type: ['integer', 'null'] } }

const HISTORY_SCHEMA = {
  summary: 'Lag of the loops and depth of the queues over the last minutes; null where nothing could be read',
  querystring: {
    type: 'object',
    properties: { minutes: { type: 'integer', minimum: 1, maximum: KEPT_MINUTES, default: KEPT_MINUTES } },
  },
  response: {
    200: {
      type: 'object',
      properties: {
        stepMs: { type: 'integer' },
        times: { type: 'array', items: { type: 'integer' }, description: 'Unix milliseconds' },
        loops: {
          type: 'array',
          items: {
            type: 'object',
            properties: { supervisor: { type: 'string' }, loop: { type: 'string' }, queue: { type: 'string' }, lagMs: curve },
          },
        },
        queues: {
          type: 'array',
          items: {
            type: 'object',
            properties: { queue: { type: 'string' }, ...Object.fromEntries(MEASURES.map((measure) => [measure, curve])) },
          },
        },
      },
    },
  },
}

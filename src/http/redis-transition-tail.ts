/**
 * The transitions stream as a client of events sees it: one reader that waits for what is new, and looks back for whoever
 * comes back. A place in the stream is the id of an entry; `0-0` is before the first.
 */
import { setTimeout } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { FleetKeys } from '../platform/redis-keys.js'

/** How long one XREAD waits, milliseconds; below the silence after which a connection is replaced. */
const BLOCK_MS = 5000
const ENTRIES_PER_READ = 200
/** Between tries while Redis refuses, milliseconds. */
const RETRY_MS = 500

export const EVENTS = ['stuck', 'resumed', 'flapping'] as const

export interface StreamedTransition {
  readonly id: string
  readonly event: (typeof EVENTS)[number]
  /** The transition as JSON, in one line. */
  readonly data: string
}

/** What stands after a place in the stream. */
export interface Page {
  readonly transitions: readonly StreamedTransition[]
  /** Where the page ends: its last entry, also one that nobody can read. */
  readonly end: string
  /** There may be more behind it. */
  readonly isFull: boolean
}

export interface TailListener {
  onTransitions(transitions: readonly StreamedTransition[]): void
  /** The store lost its memory, or is another one: places in the stream mean nothing any more. */
  onLost(): void
}

export interface TransitionTail {
  /** Up to where the reader has read; undefined until it has reached Redis for the first time. */
  readonly place: string | undefined
  start(listener: TailListener): void
  /**
   * @returns undefined: not all that came after this place is there any more, or the place is of another stream
   * @throws when Redis cannot be read
   */
  after(place: string): Promise<Page | undefined>
  stop(): Promise<void>
}

/** An id of a stream, as far as times of this age of the world need it. */
export const PLACE = /^\d{1,15}(-\d{1,15})?$/

export function comparePlaces(a: string, b: string): number {
  const [aMs = 0, aNumber = 0] = a.split('-').map(Number)
  const [bMs = 0, bNumber = 0] = b.split('-').map(Number)
  return aMs - bMs || aNumber - bNumber
}

type Entry = [id: string, fields: string[]]

export interface TransitionTailOptions {
  /** A `blocking` connection of its own. */
  readonly reader: Redis
  /** For looking back; its calls fail at once while Redis is away. */
  readonly redis: Redis
  readonly keys: Pick<FleetKeys, 'transitions'>
}

export function redisTransitionTail({ reader, redis, keys }: TransitionTailOptions): TransitionTail {
  const stopped = new AbortController()
  const { signal } = stopped
  // A connection that is cut off while it waits to reconnect never settles its calls: a stop must not wait for those.
  const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  let place: string | undefined
  let running: Promise<void> | undefined

  const newest = async () => (await reader.xrevrange(keys.transitions, '+', '-', 'COUNT', 1))[0]?.[0] ?? '0-0'

  const step = async (listener: TailListener): Promise<void> => {
    place ??= await newest()
    const reply = await reader.xread('COUNT', ENTRIES_PER_READ, 'BLOCK', BLOCK_MS, 'STREAMS', keys.transitions, place)
    const entries = reply?.[0]?.[1] ?? []
    const last = entries.at(-1)
    if (signal.aborted) return
    if (last) {
      place = last[0]
      listener.onTransitions(entries.flatMap(readable))
      return
    }
    // A stream that ends before our place is not the one that we read from.
    const end = await newest()
    if (comparePlaces(end, place) >= 0) return
    place = end
    listener.onLost()
  }

  const run = async (listener: TailListener): Promise<void> => {
    while (!signal.aborted) {
      try {
        await Promise.race([step(listener), aborted])
      } catch {
        await setTimeout(RETRY_MS, undefined, { signal }).catch(() => undefined)
      }
    }
  }

  return {
    get place() {
      return place
    },
    start(listener) {
      running ??= run(listener)
    },
    after: (from) => pageAfter(redis, keys.transitions, from),
    async stop() {
      stopped.abort()
      reader.disconnect()
      await running
    },
  }
}

/** In one step, so that nothing is trimmed between the look at the ends of the stream and the page. */
async function pageAfter(redis: Redis, stream: string, from: string): Promise<Page | undefined> {
  const replies = await redis
    .multi()
    .xrange(stream, '-', '+', 'COUNT', 1)
    .xrevrange(stream, '+', '-', 'COUNT', 1)
    .xrange(stream, `(${from}`, '+', 'COUNT', ENTRIES_PER_READ)
    .exec()
  const [first, last, entries] = (replies ?? []).map(([error, reply]) => {
    if (error) throw error
    return reply as Entry[]
  })
  if (!first || !last || !entries) throw new Error('the look into the stream was cut off')
  if (comparePlaces(last[0]?.[0] ?? '0-0', from) < 0 || isTrimmed(first[0], from)) return undefined
  return {
    transitions: entries.flatMap(readable),
    end: entries.at(-1)?.[0] ?? from,
    isFull: entries.length === ENTRIES_PER_READ,
  }
}

/** Nothing came before the transition with the number 1; before another one something may have, that is gone. */
function isTrimmed(first: Entry | undefined, from: string): boolean {
  return first !== undefined && comparePlaces(from, first[0]) < 0 && numberOf(first) !== 1
}

function numberOf(entry: Entry): unknown {
  return parsed(entry)?.['seq']
}

/** One record that somebody else garbled, or an event that no client knows, must not stop the others. */
function readable(entry: Entry): StreamedTransition[] {
  const transition = parsed(entry)
  const event = EVENTS.find((known) => known === transition?.['event'])
  // Written anew: a line break inside would end the event.
  return event === undefined ? [] : [{ id: entry[0], event, data: JSON.stringify(transition) }]
}

function parsed([, fields]: Entry): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(fields[1] ?? '')
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** A client of server-sent events that remembers what it heard. */
import { type IncomingMessage, request } from 'node:http'

export interface SseEvent {
  readonly event: string
  /** The last id that was named, as a browser keeps it. */
  readonly id: string
  readonly data: string
}

export interface SseListener {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly events: readonly SseEvent[]
  readonly comments: readonly string[]
  /** The last id that it was given; what a browser would come back with. */
  readonly lastId: string
  /** Resolves with what is asked of all that it heard, as soon as that is true; rejects when the line ends before. */
  until<T>(ask: (events: readonly SseEvent[]) => T | undefined | false): Promise<T>
  /** Resolves when the server ended it: true when in good order. */
  readonly ended: Promise<boolean>
  close(): void
}

const WAIT_MS = 30_000

export function listen(address: string, headers: Record<string, string> = {}): Promise<SseListener> {
  return new Promise((resolve, reject) => {
    const asked = request(address, { headers: { accept: 'text/event-stream', ...headers }, agent: false }, (response) =>
      resolve(listenerOn(response, () => asked.destroy())),
    )
    asked.on('error', reject).end()
  })
}

function listenerOn(response: IncomingMessage, close: () => void): SseListener {
  const events: SseEvent[] = []
  const comments: string[] = []
  const wakes = new Set<() => void>()
  let lastId = ''
  let rest = ''
  let isOver = false
  const wake = () => {
    for (const one of [...wakes]) one()
  }
  const take = (block: string) => {
    const fields = new Map<string, string>()
    for (const line of block.split('\n')) {
      const at = line.indexOf(':')
      if (at === 0) comments.push(line.slice(1).trim())
      else fields.set(line.slice(0, at), line.slice(at + 1).trimStart())
    }
    lastId = fields.get('id') ?? lastId
    const data = fields.get('data')
    if (data !== undefined) events.push({ event: fields.get('event') ?? 'message', id: lastId, data })
  }
  response.setEncoding('utf8')
  response.on('data', (chunk: string) => {
    const blocks = (rest + chunk).split('\n\n')
    rest = blocks.pop() ?? ''
    blocks.forEach(take)
    wake()
  })
  const ended = new Promise<boolean>((resolve) => {
    response.once('close', () => {
      isOver = true
      wake()
      resolve(response.complete)
    })
  })
  // Whoever is cut off sees it as the end.
  response.on('error', () => undefined)
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    events,
    comments,
    get lastId() {
      return lastId
    },
    ended,
    close,
    until: (ask) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => done(() => reject(new Error(`not heard: ${tail(events)}`))), WAIT_MS)
        const done = (settle: () => void) => {
          clearTimeout(timer)
          wakes.delete(look)
          settle()
        }
        const look = () => {
          const answer = ask(events)
          if (answer !== undefined && answer !== false) done(() => resolve(answer))
          else if (isOver) done(() => reject(new Error(`ended before: ${tail(events)}`)))
        }
        wakes.add(look)
        look()
      }),
  }
}

const tail = (events: readonly SseEvent[]) => JSON.stringify(events.slice(-5)).slice(0, 1000)

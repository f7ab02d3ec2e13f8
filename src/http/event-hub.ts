/**
 * Everybody who listens to events, and what each of them has heard. A client first catches up with the stream from the
 * place that it names, page by page and no faster than it reads, and then lives off the one reader that all share:
 *
 *   joined ──▶ catching up ──nothing newer──▶ live
 *                  └──what it asks for is gone: `reset`──▶ live, from now on
 *
 * Each client has a place of its own, so what two ways bring comes once. What the reader brings during a look back only
 * marks the client as behind: it looks again, and the decision that it is not behind and its going live are one step.
 */
import { comparePlaces, type StreamedTransition, type TransitionTail } from './redis-transition-tail.js'
import { frameOf, type SseClient } from './sse-client.js'

interface Listener {
  readonly client: SseClient
  /** The last transition that it has, or that it has named; undefined: it wants what comes from now on. */
  place: string | undefined
  isLive: boolean
  /** The reader brought something that this client has not got yet. */
  isBehind: boolean
  isCatchingUp: boolean
}

export class EventHub {
  readonly #tail: TransitionTail
  readonly #listeners = new Set<Listener>()

  constructor(tail: TransitionTail) {
    this.#tail = tail
  }

  get size(): number {
    return this.#listeners.size
  }

  start(): void {
    this.#tail.start({
      onTransitions: (transitions) => this.#fanOut(transitions),
      onLost: () => {
        for (const listener of this.#listeners) this.#reset(listener)
      },
    })
  }

  /** @param place where it left off */
  join(client: SseClient, place: string | undefined): void {
    const listener: Listener = { client, place, isLive: false, isBehind: false, isCatchingUp: false }
    this.#listeners.add(listener)
    client.onGone(() => this.#listeners.delete(listener))
    this.#resume(listener)
  }

  /** To all, with no place in the stream. */
  send(bytes: Buffer): void {
    for (const { client } of this.#listeners) client.send(bytes)
  }

  /** Those whose look back failed try again. */
  resumeAll(): void {
    for (const listener of this.#listeners) this.#resume(listener)
  }

  async stop(): Promise<void> {
    for (const { client } of this.#listeners) client.end()
    await this.#tail.stop()
  }

  #fanOut(transitions: readonly StreamedTransition[]): void {
    const frames = transitions.map((transition) => ({ id: transition.id, bytes: frameOf(transition) }))
    for (const listener of this.#listeners) {
      if (!listener.isLive) listener.isBehind = true
      else for (const { id, bytes } of frames) this.#deliver(listener, id, bytes)
    }
  }

  #deliver(listener: Listener, id: string, bytes: Buffer): void {
    if (listener.place !== undefined && comparePlaces(id, listener.place) <= 0) return
    listener.place = id
    listener.client.send(bytes)
  }

  #resume(listener: Listener): void {
    if (listener.isLive || listener.isCatchingUp) return
    listener.isCatchingUp = true
    this.#catchUp(listener)
      // Redis is away; `resumeAll` comes again.
      .catch(() => undefined)
      .finally(() => {
        listener.isCatchingUp = false
      })
  }

  async #catchUp(listener: Listener): Promise<void> {
    if (listener.place === undefined) return this.#beginNow(listener)
    while (!listener.client.isGone && !listener.isLive) {
      listener.isBehind = false
      const page = await this.#tail.after(listener.place)
      // A reset may have overtaken the look back.
      if (listener.isLive) return
      if (!page) return this.#reset(listener)
      for (const transition of page.transitions) {
        this.#deliver(listener, transition.id, frameOf(transition))
        await listener.client.drained()
        if (listener.isLive) return
      }
      listener.place = page.end
      listener.isLive = !page.isFull && !listener.isBehind
    }
  }

  /** Its place is named at once, so that it can come back to it before anything has happened. */
  #beginNow(listener: Listener): void {
    const { place } = this.#tail
    if (place === undefined) return
    listener.place = place
    listener.isLive = true
    listener.client.send(frameOf({ id: place }))
  }

  /** Whatever it knows may be wrong: it is to ask for everything, and hears what comes from now on. */
  #reset(listener: Listener): void {
    const place = this.#tail.place ?? '0-0'
    listener.place = place
    listener.isLive = true
    listener.client.send(frameOf({ id: place, event: 'reset', data: '{}' }))
  }
}

/**
 * Requests take turns with the watch loop, which shares their event loop and needs several turns of it, one for each
 * answer of Redis, before it can say STUCK. Node hands over every request that has arrived in one turn; here those past
 * the first few wait for the next one, in order, so that a turn stays short however many clients ask.
 *
 * A turn is measured in requests and not in time: on a busy machine the clock runs on while nothing of ours does, and a
 * limit of time would leave hardly a request to a turn.
 */
import type { FastifyInstance } from 'fastify'

/** Requests in one turn: 3 to 5 ms of CPU, as far as they are answered from memory. */
const IN_A_TURN = 16

export class Turns {
  readonly #waiting: (() => void)[] = []
  /** Of this turn; undefined between turns without a request. */
  #served: number | undefined

  /** Calls now, or in one of the next turns. */
  take(serve: () => void): void {
    if (this.#served === undefined) this.#begin()
    this.#waiting.push(serve)
    if (this.#waiting.length === 1) this.#serveSome()
  }

  #begin(): void {
    this.#served = 0
    // Comes after what has arrived with this turn, and the one after it only when Redis had its say too.
    setImmediate(() => this.#next())
  }

  #next(): void {
    this.#served = undefined
    if (this.#waiting.length === 0) return
    this.#begin()
    this.#serveSome()
  }

  #serveSome(): void {
    while (this.#served !== undefined && this.#served < IN_A_TURN) {
      const serve = this.#waiting.shift()
      if (!serve) return
      this.#served += 1
      serve()
    }
  }
}

/** To be added before every other hook: what waits has cost nothing yet. */
export function addTurns(server: FastifyInstance): void {
  const turns = new Turns()
  server.addHook('onRequest', (_request, _reply, done) => turns.take(done))
}
